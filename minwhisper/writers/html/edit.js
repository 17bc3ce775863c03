// Corrections, kept in this browser and in downloads. The original stays in the page.

const corrections = new Map(); // word -> text
let key = "";

function restore() {
  let hash = 2166136261; // FNV-1a of the text: a correction belongs to one transcript
  for (const [text] of data.words) for (const character of text) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  key = `minwhisper ${data.title} ${data.words.length} ${hash >>> 0}`;
  try {
    for (const [word, text] of JSON.parse(localStorage.getItem(key) ?? "[]")) {
      if (Number.isInteger(word) && word >= 0 && word < data.words.length) corrections.set(word, String(text));
    }
  } catch {
    // No storage here, or a damaged entry: begin without corrections.
  }
}

function store() {
  try {
    localStorage.setItem(key, JSON.stringify([...corrections]));
  } catch {
    element("live").textContent = "this browser does not keep corrections: download them before you close the page";
  }
}

function edit(word) {
  const original = data.words[word][TEXT].trim();
  const input = make("input", { type: "text", "aria-label": `Correct “${original}”`, dir: "auto" });
  input.value = corrections.get(word) ?? original;
  input.size = Math.max(3, input.value.length);
  let done = false;
  const finish = (keep) => {
    if (done) return;
    done = true;
    const text = input.value.trim();
    if (keep && text === original) corrections.delete(word);
    else if (keep) corrections.set(word, text);
    showWord(word);
    if (keep) store();
    showPanel(word);
    element("text").focus({ preventScroll: true });
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") finish(true);
    if (event.key === "Escape") finish(false);
  });
  input.addEventListener("blur", () => finish(true));
  spans[word].replaceChildren(input);
  input.focus();
  input.select();
}

// --- Downloads ----------------------------------------------------------------------------------------------------

const segmentText = ([, , first, last]) => data.words.slice(first, last).map((_, step) => textOf(first + step)).join("").trim();

function stamp(milliseconds, mark) {
  const [hours, minutes] = [Math.floor(milliseconds / 3600000), Math.floor(milliseconds / 60000) % 60];
  const seconds = Math.floor(milliseconds / 1000) % 60;
  const two = (number) => String(number).padStart(2, "0");
  return `${two(hours)}:${two(minutes)}:${two(seconds)}${mark}${String(milliseconds % 1000).padStart(3, "0")}`;
}

const cueText = (segment) => segmentText(segment).replace(/-{2,}>/g, "->").replace(/\s*\n\s*/g, " ");

const FORMATS = {
  txt: () => data.segments.map(segmentText).join("\n") + "\n",
  srt: () => data.segments.map((segment, number) =>
    `${number + 1}\n${stamp(segment[0], ",")} --> ${stamp(segment[1], ",")}\n${cueText(segment)}\n`).join("\n"),
  vtt: () => "WEBVTT\n\n" + data.segments.map((segment) =>
    `${stamp(segment[0], ".")} --> ${stamp(segment[1], ".")}\n` +
    `${cueText(segment).replace(/&/g, "&amp;").replace(/</g, "&lt;")}\n`).join("\n"),
  json: () => JSON.stringify({
    text: data.words.map((_, word) => textOf(word)).join(""),
    language: data.language,
    segments: data.segments.map((segment, id) => ({
      id, start: segment[0] / 1000, end: segment[1] / 1000, text: ` ${segmentText(segment)}`,
      words: data.words.slice(segment[2], segment[3]).map(([, start, end, probability], step) => ({
        word: textOf(segment[2] + step), start: start / 1000, end: end / 1000, probability: probability / 1000,
      })),
    })),
    corrections: [...corrections].map(([word, text]) => ({ word, original: data.words[word][TEXT].trim(), corrected: text })),
  }, null, 1) + "\n",
};

function download(format) {
  const address = URL.createObjectURL(new Blob([FORMATS[format]()], { type: "text/plain;charset=utf-8" }));
  const name = data.title.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N} _.-]/gu, "_") || "transcript";
  make("a", { href: address, download: `${name}.${format}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

async function copyText() {
  try {
    await navigator.clipboard.writeText(FORMATS.txt());
    element("live").textContent = "copied";
  } catch {
    element("live").textContent = "the browser does not allow copying here: download the text instead";
  }
}
