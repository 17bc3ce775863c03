"use strict";
// The transcript, unpacked from the page. Times are milliseconds, and probabilities are thousandths (-1: unknown).
//
// data.words: [text, start, end, probability]; data.segments: [start, end, first word, word after the last, window,
// [temperature, mean log-probability, compression ratio, probability of no speech]]; data.steps, by word:
// [token, probability, [[alternative, probability] …], start of the attention, its values as hexadecimal digits].

const [TEXT, START, END, PROBABILITY] = [0, 1, 2, 3];
const element = (id) => document.getElementById(id);
let data;
let segmentOf; // by word

function bytesOf(base64) {
  return Uint8Array.from(atob(base64.trim()), (character) => character.charCodeAt(0));
}

async function unpack() {
  const packed = new Blob([bytesOf(element("data").textContent)]);
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  data = JSON.parse(await new Response(stream).text());
  segmentOf = new Int32Array(data.words.length);
  data.segments.forEach(([, , first, last], number) => segmentOf.fill(number, first, last));
}

// An element with attributes, event listeners (functions) and children. Strings become text, never HTML.
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function clock(milliseconds, decimals = 0) {
  const seconds = milliseconds / 1000;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = (seconds % 60).toFixed(decimals).padStart(decimals ? decimals + 3 : 2, "0");
  return (hours ? `${hours}:${String(minutes).padStart(2, "0")}` : `${minutes}`) + `:${rest}`;
}

const percent = (thousandths) => `${(thousandths / 10).toFixed(thousandths < 100 ? 1 : 0)} %`;
