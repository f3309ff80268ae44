# Strings, hashes, objects, threads, fibers, forks, garbage collection with compaction; no clock, no addresses.
require 'digest/md5'
require 'digest/sha1'
require 'digest/sha2'
require 'json'
require 'set'
require 'zlib'

random = Random.new(4711)
words = Hash.new { |hash, key| hash[key] = [] }
60_000.times { |i| words[Array.new(1 + random.rand(6)) { (97 + random.rand(26)).chr }.join] << i }
words.sort_by { |word, places| [-places.size, word] }.first(20).each { |word, places| puts "#{word} #{places.size} #{places.last}" }

text = JSON.generate(words.first(5000).to_h)
puts text.size, JSON.parse(text).size, Digest::SHA256.hexdigest(text)
puts Zlib::Inflate.inflate(Zlib::Deflate.deflate(text)) == text
puts text.scan(/"[a-z]{3}":\[(\d+)/).size
puts Set.new(text.split(',')).size

grown = +''
300_000.times { |i| grown << i.to_s }
puts grown.size, Digest::MD5.hexdigest(grown)
puts ('x' * (64 << 20)).size

Node = Struct.new(:value, :left, :right)
def grow(depth) = depth.zero? ? nil : Node.new(depth, grow(depth - 1), grow(depth - 1))
def weigh(node) = node ? node.value + weigh(node.left) + weigh(node.right) : 0
3.times { puts weigh(grow(15)) }
GC.start
GC.compact if GC.respond_to?(:compact)
puts weigh(grow(12))

threads = 4.times.map do |seed|
  Thread.new do
    mine = Random.new(seed)
    Digest::SHA1.hexdigest(2000.times.map { mine.bytes(1 + mine.rand(3000)) }.join)
  end
end
threads.each { |thread| puts thread.value }

fiber = Fiber.new { 5.times { |i| Fiber.yield 'f' * (i * 1000) } ; nil }
while (piece = fiber.resume)
  puts piece.size
end

children = 4.times.map { |i| fork { exit!(Array.new(20_000) { |j| "#{i}#{j}" }.size == 20_000 ? 0 : 1) } }
children.each { |child| puts Process.wait2(child)[1].exitstatus }
puts `echo through a shell`
puts Integer.sqrt(7**4000).to_s.size
begin
  'x' * (2**62)
rescue ArgumentError, NoMemoryError => refusal
  puts refusal.class
end
