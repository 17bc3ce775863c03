"use strict";
// The interactive figures: <figure data-widget="playhead | heads | temperature | candidates">, and the player.
// widgets.py computes their values, figures.py writes them into the page.

addEventListener("DOMContentLoaded", () => {
  const source = document.getElementById("widget-values");
  if (!source) return;
  const values = JSON.parse(source.textContent);
  const draw = { playhead, heads, temperature, candidates };
  const player = startPlayer(values);
  for (const figure of document.querySelectorAll("figure[data-widget]")) {
    draw[figure.dataset.widget](figure, values, player);
    figure.classList.add("ready");
  }
});

// ------------------------------------------------------------------------------------------ helpers

function make(tag, properties = {}, ...children) {
  const { style, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  Object.assign(element.style, style);
  element.append(...children);
  return element;
}

const percent = (share) => share >= 0.9995 ? "100\u00a0%" : share >= 0.1 ? `${(100 * share).toFixed(1)}\u00a0%`
  : share >= 0.00005 ? `${(100 * share).toFixed(2)}\u00a0%` : "under 0.01\u00a0%";
const visible = (token) => token.replace(/^ /, "␣");
const clean = (token) => token.trim();

// Put buttons into one stop of the Tab key: arrow keys move among them, `columns` apart for up and down.
function roving(buttons, choose, columns = 0) {
  const select = (at, focus) => {
    buttons.forEach((button, i) => { button.tabIndex = i === at ? 0 : -1; });
    if (focus) buttons[at].focus();
    choose(at);
  };
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => select(i, true));
    button.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -(columns || 1), ArrowDown: columns || 1 };
      const ends = { Home: 0, End: buttons.length - 1 };
      const to = event.key in ends ? ends[event.key] : i + (moves[event.key] ?? NaN);
      if (!(to >= 0 && to < buttons.length)) return;
      event.preventDefault();
      select(to, true);
    });
  });
  return select;
}

// Probability of each listed token at a temperature, and of all others together.
function distribution(step, values, temperature) {
  const at = values.temperatures.indexOf(temperature);
  const shares = step.logits.map((logit, i) =>
    temperature === 0 ? Number(i === 0) : Math.exp(logit / temperature - step.sums[at - 1]));
  return { shares, others: Math.max(0, 1 - shares.reduce((a, b) => a + b, 0)) };
}

function bars(list, rows) {
  list.replaceChildren(...rows.map(([name, share]) => make("li", {},
    make("code", {}, name),
    make("span", { className: "bar" }, make("span", { style: { width: `${100 * share}%` } })),
    make("span", { className: "share" }, percent(share)))));
}

// ------------------------------------------------------------------------------------------ the recording

// Start the player: words that light up, and a line over every picture that has the recording's time across.
function startPlayer(values) {
  const audio = document.querySelector(".clip audio");
  const listeners = [];
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const tokens = values.steps.map((step) => step.names[0]);
  const player = {
    tokens,
    at: (seconds) => Math.max(0, values.starts.findLastIndex((start) => start <= seconds)),
    toggle: () => audio.paused ? audio.play() : audio.pause(),
    seek: (seconds) => { audio.currentTime = Math.min(Math.max(seconds, 0), values.seconds); },
    listen: (listener) => { listeners.push(listener); listener(audio.currentTime, audio.paused); },
    // Draw the line over a picture, and move to where it is clicked.
    follow: (track) => {
      const line = make("div", { className: "line" });
      track.append(line);
      track.addEventListener("click", (event) => {
        const box = track.getBoundingClientRect();
        player.seek((event.clientX - box.left) / box.width * values.seconds);
      });
      player.listen((seconds) => { line.style.left = `${100 * seconds / values.seconds}%`; });
    },
  };
  const update = () => listeners.forEach((listener) => listener(audio.currentTime, audio.paused));
  const animate = () => {
    update();
    if (!audio.paused && !calm.matches) requestAnimationFrame(animate);
  };
  audio.addEventListener("play", animate);
  for (const event of ["pause", "seeking", "seeked", "timeupdate"]) audio.addEventListener(event, update);

  player.follow(document.querySelector(".clip .track"));
  const spoken = document.querySelector(".spoken");
  const words = tokens.slice(0, -1).map((token) => make("button", { type: "button" }, clean(token)));
  spoken.replaceChildren(...words.flatMap((word, i) => tokens[i].startsWith(" ") && i ? [" ", word] : [word]));
  spoken.role = "toolbar";
  spoken.ariaLabel = "Words: choose one to move the player to it";
  roving(words, (at) => player.seek(values.starts[at]));
  words.forEach((word, i) => { word.tabIndex = i ? -1 : 0; });
  player.listen((seconds, paused) => {
    const now = seconds > 0 || !paused ? player.at(seconds) : -1;
    words.forEach((word, i) => word.classList.toggle("now", i === now));
  });
  return player;
}

function playhead(figure, values, player) {
  const [, rows] = figure.querySelectorAll(".track");
  for (const track of figure.querySelectorAll(".track")) player.follow(track);
  const button = make("button", { type: "button", className: "play" });
  const clock = make("output", {});
  button.addEventListener("click", player.toggle);
  figure.prepend(make("div", { className: "controls" }, button, clock));
  const height = 100 / player.tokens.length;
  const labels = player.tokens.map((token, i) =>
    make("span", { className: "label", style: { top: `${height * i}%`, height: `${height}%` } },
      token.startsWith("<|") ? "end" : clean(token)));
  const row = make("div", { className: "row", style: { height: `${height}%` } });
  rows.append(row, ...labels);
  player.listen((seconds, paused) => {
    const now = player.at(seconds);
    button.textContent = paused ? "Play" : "Pause";
    clock.textContent = `${seconds.toFixed(1)} s`;
    row.style.top = `${height * now}%`;
    labels.forEach((label, i) => label.classList.toggle("now", i === now));
  });
}

// ------------------------------------------------------------------------------------------ attention

const TITLES = { encoder: "Encoder self-attention", cross: "Cross-attention", decoder: "Decoder self-attention" };

// Read the levels of all heads from their picture: the share of a pixel is brightest · (level / 255)².
function readSheet(kind) {
  const image = document.querySelector(`img.sheet.${kind}`);
  const canvas = make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return { width: canvas.width, pixels: context.getImageData(0, 0, canvas.width, canvas.height).data };
}

// Interpolate 256 colours.
function palette(colours) {
  const known = colours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, level) => {
    const place = level / 255 * (known.length - 1), low = Math.min(Math.floor(place), known.length - 2);
    return known[low].map((channel, i) => Math.round(channel + (place - low) * (known[low + 1][i] - channel)));
  });
}

async function heads(figure, values, player) {
  await Promise.all([...document.querySelectorAll("img.sheet")].map((image) => image.decode()));
  const colours = palette(values.colours);
  const sheets = {};
  const state = { kind: figure.dataset.start, block: 0, head: 0, row: 0 };

  const level = (block, head, row, column) => {
    const { rows, columns } = values.heads[state.kind], sheet = sheets[state.kind];
    return sheet.pixels[4 * ((block * rows + row) * sheet.width + head * columns + column)];
  };
  const paint = (canvas, block, head) => {
    const { rows, columns } = values.heads[state.kind];
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) {
      image.data.set([...colours[level(block, head, Math.floor(i / columns), i % columns)], 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  };

  const kinds = make("select", { ariaLabel: "Kind of attention" },
    ...Object.keys(values.heads).map((kind) => make("option", { value: kind, selected: kind === state.kind }, TITLES[kind])));
  const grid = make("div", { className: "thumbs", role: "group", ariaLabel: "Heads: a row per block" });
  const canvas = make("canvas", { role: "img" });
  const marker = make("div", { className: "row" });
  const matrix = make("div", { className: "matrix" }, canvas, marker);
  const slider = make("input", { type: "range", min: 0 });
  const query = make("label", { className: "query" }, make("span", {}, "Query "), slider);
  const picture = document.querySelector(".clip .track img").cloneNode();
  const shares = make("canvas", { width: 550, height: 100 });
  const profile = make("div", { className: "track profile" }, picture, shares);
  const text = make("p", { className: "weighted" });
  const readout = make("p", { className: "readout", ariaLive: "polite" });
  figure.prepend(make("div", { className: "controls" }, kinds), make("div", { className: "chooser" }, make("div", {}, grid, readout), matrix),
    query, profile, text);

  const when = (row) => {
    const cell = values.seconds / values.heads[state.kind].columns;
    return [row * cell, (row + 1) * cell];
  };
  const word = (seconds) => clean(player.tokens[Math.min(player.at(seconds), player.tokens.length - 2)]);
  const name = (row) => `“${visible(player.tokens[row])}”`;

  const showRow = () => {
    const { rows, columns, brightest } = values.heads[state.kind];
    const scale = brightest[state.block][state.head];
    const weights = Array.from({ length: columns }, (_, i) =>
      scale * (level(state.block, state.head, state.row, i) / 255) ** 2);
    const best = weights.indexOf(Math.max(...weights));
    marker.style.top = `${100 * state.row / rows}%`;
    marker.style.height = `${100 / rows}%`;
    const where = state.kind === "decoder"
      ? (best < 0 ? "" : `to ${best ? name(best - 1) : "the prompt"}`)
      : `to ${when(best)[0].toFixed(2)} s, in “${word(when(best)[0])}”`;
    const from = state.kind === "encoder"
      ? `The audio at ${when(state.row)[0].toFixed(2)} s, in “${word(when(state.row)[0])}”,`
      : `To predict ${name(state.row)}, the decoder`;
    slider.ariaValueText = from;
    readout.textContent = `Block ${state.block}, head ${state.head}, counted from 0. ${from} attends most `
      + `${where}: ${percent(weights[best])} of its attention.`;
    profile.hidden = state.kind === "decoder";
    text.hidden = !profile.hidden;
    if (profile.hidden) {
      const inputs = ["(prompt)", ...player.tokens.slice(0, -1).map(visible)];
      const spans = inputs.map((token, i) => make("span", { title: percent(weights[i]) }, token));
      spans.forEach((span, i) => span.style.setProperty("--weight", Math.sqrt(weights[i]).toFixed(3)));
      text.replaceChildren(...spans.flatMap((span) => [span, " "]));
      return;
    }
    const context = shares.getContext("2d"), most = Math.max(...weights, 1e-9);
    context.clearRect(0, 0, shares.width, shares.height);
    context.fillStyle = "rgb(255 255 255 / 0.85)";
    weights.forEach((weight, i) => {
      const height = shares.height * weight / most, width = shares.width / columns;
      context.fillRect(i * width, shares.height - height, Math.max(1, width), height);
    });
  };
  const showHead = () => {
    thumbs.forEach((thumb, i) =>
      thumb.setAttribute("aria-pressed", String(i === state.block * values.heads[state.kind].heads + state.head)));
    paint(canvas, state.block, state.head);
    canvas.ariaLabel = `${TITLES[state.kind]}, block ${state.block}, head ${state.head}`;
    showRow();
  };
  let thumbs = [];
  const showKind = () => {
    sheets[state.kind] ??= readSheet(state.kind);
    const { blocks, heads, rows } = values.heads[state.kind];
    figure.dataset.kind = state.kind;
    state.row = Math.min(Math.round(rows / 3), rows - 1);
    slider.max = rows - 1;
    slider.value = state.row;
    thumbs = Array.from({ length: blocks * heads }, (_, i) => {
      const small = make("canvas");
      paint(small, Math.floor(i / heads), i % heads);
      return make("button", { type: "button", ariaLabel: `Block ${Math.floor(i / heads)}, head ${i % heads}` }, small);
    });
    grid.style.setProperty("--heads", heads);
    grid.replaceChildren(...thumbs);
    const select = roving(thumbs, (at) => {
      state.block = Math.floor(at / heads);
      state.head = at % heads;
      showHead();
    }, heads);
    select(Math.min(state.block, blocks - 1) * heads + Math.min(state.head, heads - 1), false);
  };
  kinds.addEventListener("change", () => { state.kind = kinds.value; showKind(); });
  slider.addEventListener("input", () => { state.row = Number(slider.value); showRow(); });
  matrix.addEventListener("pointermove", (event) => {
    const box = matrix.getBoundingClientRect(), { rows } = values.heads[state.kind];
    state.row = Math.min(rows - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * rows)));
    slider.value = state.row;
    showRow();
  });
  [state.block, state.head] = state.kind === "encoder" ? [3, 2] : [2, 0];
  showKind();
}

// ------------------------------------------------------------------------------------------ the next token

// The step at which the model is least sure.
const doubtful = (values) => values.steps.reduce(
  (worst, step, i) => distribution(step, values, 1).shares[0] < distribution(values.steps[worst], values, 1).shares[0] ? i : worst, 0);

const context = (player, at) => at ? `after “… ${player.tokens.slice(Math.max(0, at - 3), at).join("").trim()}”` : "at the beginning";

function temperature(figure, values, player) {
  const steps = make("select", {}, ...player.tokens.map((token, i) =>
    make("option", { value: i }, `${i + 1}: ${visible(token)}, ${context(player, i)}`)));
  const slider = make("input", { type: "range", min: 0, max: values.temperatures.length - 1, value: 10 });
  const shown = make("output", {});
  const list = make("ol", { className: "bars" });
  const drawn = make("p", { className: "drawn-tokens", ariaLive: "polite" });
  const button = make("button", { type: "button" }, "Draw 20 tokens");
  steps.value = doubtful(values);
  const chosen = () => [values.steps[steps.value], values.temperatures[slider.value]];
  const update = () => {
    const [step, tau] = chosen(), { shares, others } = distribution(step, values, tau);
    shown.textContent = `τ = ${tau.toFixed(1)}${tau === 0 ? ", greedy" : tau === 1 ? ", as trained" : ""}`;
    slider.ariaValueText = shown.textContent;
    const rest = shares.slice(7).reduce((a, b) => a + b, others);
    bars(list, [...step.names.slice(0, 7).map((name, i) => [visible(name), shares[i]]), ["all others", rest]]);
    drawn.replaceChildren();
  };
  button.addEventListener("click", () => {
    const [step, tau] = chosen(), { shares } = distribution(step, values, tau);
    drawn.replaceChildren(...Array.from({ length: 20 }, () => {
      let left = Math.random();
      const at = shares.findIndex((share) => (left -= share) < 0);
      return make("code", { className: at === 0 ? "first" : "" }, at < 0 ? "another" : visible(step.names[at]));
    }).flatMap((token) => [token, " "]));
  });
  slider.addEventListener("input", update);
  steps.addEventListener("change", update);
  figure.prepend(make("div", { className: "controls" }, make("label", {}, "Step ", steps),
    make("label", {}, "Temperature ", slider), shown), list, make("div", { className: "controls" }, button), drawn);
  update();
}

function candidates(figure, values, player) {
  const list = make("ol", { className: "bars" });
  const readout = make("p", { className: "readout", ariaLive: "polite" });
  const firsts = values.steps.map((step) => distribution(step, values, 1).shares[0]);
  const tokens = player.tokens.map((token, i) => make("button",
    { type: "button", className: firsts[i] < 0.5 ? "unsure" : firsts[i] < 0.9 ? "fair" : "sure" },
    token.startsWith("<|") ? token : clean(token)));
  const show = (at) => {
    const step = values.steps[at], { shares } = distribution(step, values, 1);
    tokens.forEach((token, i) => token.setAttribute("aria-pressed", String(i === at)));
    readout.textContent = `Step ${at + 1}, ${context(player, at)}: ${visible(step.names[0])} with ${percent(shares[0])}.`;
    bars(list, step.names.slice(0, 5).map((name, i) => [visible(name), shares[i]]));
  };
  const select = roving(tokens, show);
  tokens.forEach((token, i) => token.addEventListener("pointerenter", () => show(i)));
  figure.prepend(make("div", { className: "tokens", role: "toolbar", ariaLabel: "Tokens" },
    ...tokens.flatMap((token) => [token, " "])), readout, list);
  select(doubtful(values), false);
}
