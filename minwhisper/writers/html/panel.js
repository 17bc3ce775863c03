// The panel, which explains the chosen word: its place in the spectrogram, its tokens with their alternatives, the
// attention that its time was read from, and how its window was decoded.

const AROUND = 1000; // milliseconds of spectrogram that are shown before and after a word
const images = new Map(); // tiles of the spectrogram that were decoded

function showPanel(word) {
  const [text, start, end, probability] = data.words[word];
  const segment = data.segments[segmentOf[word]];
  const parts = [make("h2", { dir: "auto" }, text.trim())];
  const probable = probability < 0 ? "" : `, ${percent(probability)} probable`;
  parts.push(make("p", {}, `${clock(start, 2)} to ${clock(end, 2)}${probable}`));
  if (corrections.has(word)) parts.push(make("p", {}, `corrected to “${corrections.get(word)}”`));
  if (data.tiles) parts.push(spectrogram(word));
  const steps = data.steps?.[word] ?? [];
  if (steps.length) parts.push(make("h3", {}, "Tokens, and what else was likely"), ...steps.map(tokenTable));
  parts.push(make("h3", {}, "Its window"), windowFacts(segment));
  if (data.languages) {
    const shares = data.languages.map(([code, share]) => `${code} ${percent(share)}`).join(", ");
    parts.push(make("h3", {}, "Language of the recording"), make("p", {}, shares));
  }
  element("panel").replaceChildren(...parts);
  element("panel").hidden = false;
}

const visible = (token) => token.replace(/ /g, "␣");

function tokenTable([token, probability, alternatives]) {
  const rows = alternatives.map(([other, share]) =>
    make("tr", other === token ? { class: "taken" } : {},
      make("td", {}, visible(other)),
      make("td", {}, make("meter", { min: 0, max: 1000, value: share, "aria-label": percent(share) }), percent(share))));
  if (!alternatives.some(([other]) => other === token)) {
    rows.push(make("tr", { class: "taken" }, make("td", {}, visible(token)), make("td", {}, percent(probability))));
  }
  return make("table", { class: "likely" }, make("caption", {}, `“${visible(token)}”`), ...rows);
}

function windowFacts([, , , , number, [temperature, logprob, compression, silence]]) {
  const facts = make("dl", {});
  const add = (name, value) => facts.append(make("dt", {}, name), make("dd", {}, value));
  add("temperature", String(temperature));
  add("mean log-probability", logprob.toFixed(2));
  add("compression ratio", compression.toFixed(2));
  add("probability of no speech", silence.toFixed(2));
  const found = make("div", {}, facts);
  const window = data.windows?.[number];
  if (!window) return found;
  const [start, duration, , attempts] = window;
  add("audio", `${clock(start)} to ${clock(start + duration)}`);
  const earlier = attempts.slice(0, -1);
  if (earlier.length) {
    found.append(make("h3", {}, "Attempts that were rejected"), ...earlier.map(([numbers, text]) =>
      make("p", { dir: "auto" }, `at temperature ${numbers[0]} (${numbers[1].toFixed(2)}, ${numbers[2].toFixed(2)}): ${text}`)));
  }
  const lost = attempts.at(-1)[2].filter(([text]) => text !== attempts.at(-1)[1]);
  if (lost.length) {
    found.append(make("h3", {}, "Candidates that lost"), ...lost.map(([text, average]) =>
      make("p", { dir: "auto" }, `${average.toFixed(2)}: ${text}`)));
  }
  return found;
}

// --- The spectrogram ----------------------------------------------------------------------------------------------

async function tile(number) {
  if (!images.has(number)) {
    const source = document.getElementsByClassName("tile")[number];
    images.set(number, source ? await createImageBitmap(new Blob([bytesOf(source.textContent)], { type: "image/png" })) : null);
  }
  return images.get(number);
}

function spectrogram(word) {
  const [, start, end] = data.words[word];
  const { seconds, rows, columns } = data.tiles;
  const [from, to] = [Math.max(0, start - AROUND), end + AROUND];
  const width = Math.max(2, Math.round((to - from) / 1000 * columns));
  const canvas = make("canvas", { width: 12 * width, height: 3 * rows + 24, role: "img" });
  canvas.setAttribute("aria-label", `Spectrogram from ${clock(from, 1)} to ${clock(to, 1)}, with the limits of the word`);
  draw(canvas, word, from, to, width, seconds, rows, columns);
  return canvas;
}

async function draw(canvas, word, from, to, width, seconds, rows, columns) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const first = Math.round((from / 1000) * columns);
  const perTile = seconds * columns;
  for (let number = Math.floor(first / perTile); number * perTile < first + width; number++) {
    const image = await tile(number);
    if (image) context.drawImage(image, 12 * (number * perTile - first), 0, 12 * image.width, 3 * rows);
  }
  const at = (milliseconds) => ((milliseconds - from) / (to - from)) * canvas.width;
  const [, start, end] = data.words[word];
  context.strokeStyle = "#ff7a00";
  context.lineWidth = 3;
  context.strokeRect(at(start), 1, Math.max(3, at(end) - at(start)), 3 * rows - 2);
  // The attention of the word's tokens, as a strip below: the darker, the more.
  for (const [, , , begin, values] of data.steps?.[word] ?? []) {
    [...(values ?? "")].forEach((digit, position) => {
      const time = segmentStart(word) + begin + 40 * position;
      context.fillStyle = `rgb(0 114 178 / ${parseInt(digit, 16) / 15})`;
      context.fillRect(at(time), 3 * rows + 4, Math.max(1, at(time + 40) - at(time)), 18);
    });
  }
}

// Attention is counted from the start of the window.
const segmentStart = (word) => data.windows?.[data.segments[segmentOf[word]][4]]?.[0] ?? 0;
