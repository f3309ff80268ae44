# Hashes, sorting, regular expressions, growing strings, forks and interpreter threads.
use strict;
use warnings;
use threads;
use threads::shared;
use List::Util qw(sum reduce);
use Storable qw(freeze thaw dclone);

my $state = 12345;
sub draw { $state = ($state * 1103515245 + 12345) & 0x7fffffff; return $state % $_[0]; }

my %words;
for my $i (1 .. 60000) {
    my $word = join '', map { chr(97 + draw(26)) } 1 .. 1 + draw(9);
    $words{$word}{count}++;
    push @{ $words{$word}{at} }, $i;
}
my @common = (sort { $words{$b}{count} <=> $words{$a}{count} || $a cmp $b } keys %words)[0 .. 40];
print "$_ $words{$_}{count} @{$words{$_}{at}}[0..1]\n" for @common[0 .. 20];

my $copy = dclone(\%words);
print sum(map { $_->{count} } values %$copy), " ", length(freeze({ map { $_ => 1 } @common })), "\n";
delete @words{ grep { length > 3 } keys %words };
print scalar(keys %words), "\n";

my $text = '';
$text .= sprintf("%05d:%s;", $_, 'x' x draw(40)) for 1 .. 20000;
my $found = () = $text =~ /(\d{3}7):(x{5,20});/g;
(my $changed = $text) =~ s/(\d+):(x*)/length($2) . ":$1"/ge;
print "$found ", length($changed), " ", unpack('%32C*', $changed), "\n";

my @grid = map { [ map { $_ ** 2 } 1 .. 300 ] } 1 .. 300;
print reduce { $a + $b } map { $_->[17] } @grid;
print "\n";

my $huge = 'y' x (48 << 20);
$huge .= 'z' x (16 << 20);
print length($huge), "\n";
undef $huge;

my @pids;
for my $child (1 .. 6) {
    my $pid = fork;
    die 'no fork' unless defined $pid;
    if (!$pid) {
        my %mine = map { $_ => "v$_" x 5 } 1 .. 5000;
        exit(keys %mine == 5000 ? 0 : 1);
    }
    push @pids, $pid;
}
waitpid($_, 0), print "child $?\n" for @pids;

my $total : shared = 0;
my @threads = map {
    my $seed = $_;
    threads->create(sub {
        my %mine;
        $mine{"k$_"} = [ 1 .. $_ % 50 ] for 1 .. 4000;
        my $sum = sum(map { scalar @$_ } values %mine) * $seed;
        lock($total);
        $total += $sum;
        return $sum;
    })
} 1 .. 4;
print join(' ', map { $_->join } @threads), " $total\n";
print `echo through a shell`;
