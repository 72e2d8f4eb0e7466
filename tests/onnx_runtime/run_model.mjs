// Runs an exported model in onnxruntime-web and prints its output as JSON: one row per clip.
//
//   node run_model.mjs MODEL.onnx CLIP...
//
// A clip is a WAV file (16-bit mono) or NAME.f32 (little-endian float32). It is cut or filled with
// silence to what the model's input takes. All clips go through as one batch.
import {readFile} from 'node:fs/promises';
import process from 'node:process';

import * as ort from 'onnxruntime-web';

// The samples of 16-bit mono WAV bytes as floats in [-1, 1).
function wavSamples(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tag = (at) => bytes.toString('latin1', at, at + 4);
  if (tag(0) !== 'RIFF' || tag(8) !== 'WAVE') throw new Error(`${name} is not a WAV file`);
  for (let at = 12; at + 8 <= bytes.length;) {
    const size = view.getUint32(at + 4, true);
    if (tag(at) === 'data') {
      const count = Math.min(size, bytes.length - at - 8) >> 1;
      return Float32Array.from({length: count}, (_, i) => view.getInt16(at + 8 + 2 * i, true) / 32768);
    }
    at += 8 + size + (size & 1);
  }
  throw new Error(`${name} has no data chunk`);
}

function rawSamples(bytes) {
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

async function main([model, ...clips]) {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(await readFile(model), {
    executionProviders: ['wasm'],
  });
  const input = session.inputMetadata[0];
  const size = input.shape[1];
  const batch = new Float32Array(clips.length * size);
  for (const [row, clip] of clips.entries()) {
    const bytes = await readFile(clip);
    const samples = clip.endsWith('.wav') ? wavSamples(bytes, clip) : rawSamples(bytes);
    batch.set(samples.subarray(0, size), row * size);
  }
  const feeds = {[input.name]: new ort.Tensor('float32', batch, [clips.length, size])};
  const results = await session.run(feeds);
  const output = results[session.outputNames[0]];
  const width = output.data.length / clips.length;
  const rows = clips.map((_, row) => Array.from(output.data.subarray(row * width, (row + 1) * width)));
  console.log(JSON.stringify({input: input.name, output: session.outputNames[0], rows}));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
