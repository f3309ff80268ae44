// Buffers, maps, JSON, compression, hashes, worker threads, child processes; what is printed depends on no clock.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');
const { execFileSync } = require('child_process');

function churn(seed) {
  let state = seed;
  const draw = (n) => { state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff; return state % n; };
  const buffers = new Map();
  const hash = crypto.createHash('sha256');
  for (let step = 0; step < 20000; step++) {
    const key = draw(500);
    if (buffers.has(key)) {
      hash.update(buffers.get(key));
      buffers.delete(key);
    } else {
      buffers.set(key, Buffer.alloc(1 + draw(step % 100 === 0 ? 3000000 : 9000), key & 255));
    }
  }
  return hash.digest('hex');
}

if (!isMainThread) {
  parentPort.postMessage(churn(workerData));
} else {
  console.log(churn(1));
  const rows = Array.from({ length: 30000 }, (_, i) => ({ i, name: `row ${i}`, parts: [i, i * 2, `${i}`.repeat(3)] }));
  const text = JSON.stringify(rows);
  console.log(text.length, JSON.parse(text).filter((row) => row.parts[1] % 14 === 0).length);
  const packed = zlib.gzipSync(text, { level: 6 });
  console.log(zlib.gunzipSync(packed).equals(Buffer.from(text)), zlib.brotliDecompressSync(zlib.brotliCompressSync(packed, {
    params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 5 } })).equals(packed));
  console.log(crypto.pbkdf2Sync('word', 'salt', 2000, 64, 'sha512').toString('hex'));
  console.log(new Set(text.match(/row \d*7\b/g)).size);
  for (const size of [1e6, 1e7, 1e8]) {
    const array = new Float64Array(size / 8);
    array[array.length - 1] = 1;
    console.log(array.reduce((a, b) => a + b));
  }
  try {
    new ArrayBuffer(2 ** 53 - 1);
  } catch (refusal) {
    console.log(refusal.name);
  }
  console.log(execFileSync(process.execPath, ['-e', 'console.log("from a child")']).toString());
  const seeds = [2, 3, 4, 5];
  const results = new Array(seeds.length);
  let left = seeds.length;
  seeds.forEach((seed, place) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.on('message', (digest) => { results[place] = digest; });
    worker.on('error', (error) => { throw error; });
    worker.on('exit', (code) => {
      if (code !== 0) throw new Error(`worker ${seed} ended with ${code}`);
      if (--left === 0) results.forEach((digest) => console.log(digest));
    });
  });
}
