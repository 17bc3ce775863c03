// The text: paragraphs of words. A word's level shows how probable it is, by colour and by the line below it.

const LEVELS = [200, 400, 600, 800]; // below each of these, a word is one level more doubtful
let spans = []; // by word
let chosen = -1;

const level = (probability) => (probability < 0 ? "" : String(LEVELS.filter((limit) => probability >= limit).length));

function showText() {
  const starts = [...data.paragraphs, data.segments.length];
  const paragraphs = data.paragraphs.map((first, number) => {
    const [from, to] = [data.segments[first][2], data.segments[starts[number + 1] - 1][3]];
    const time = data.segments[first][0];
    const button = make("button", { class: "time", "aria-label": `Play from ${clock(time)}`, click: () => play(time) });
    button.textContent = clock(time);
    const paragraph = make("p", {}, button);
    for (let word = from; word < to; word++) {
      spans[word] = make("span", { class: "w", "data-word": word, "data-level": level(data.words[word][PROBABILITY]) });
      showWord(word);
      paragraph.append(spaceBefore(word), spans[word]);
    }
    return paragraph;
  });
  element("text").replaceChildren(...paragraphs);
  element("text").tabIndex = 0;
  element("text").setAttribute("aria-label", "Transcript; arrow keys choose words, Enter corrects one");
  element("text").addEventListener("click", (event) => {
    const span = event.target.closest("[data-word]");
    if (span && !event.target.closest("input")) choose(Number(span.dataset.word), true);
  });
  element("text").addEventListener("dblclick", (event) => {
    const span = event.target.closest("[data-word]");
    if (span) edit(Number(span.dataset.word));
  });
}

const spaceBefore = (word) => data.words[word][TEXT].match(/^\s*/)[0];

// Write a word, with its correction if it has one.
function showWord(word) {
  const original = data.words[word][TEXT].trim();
  const corrected = corrections.get(word);
  spans[word].classList.toggle("edited", corrected !== undefined);
  if (corrected === undefined) spans[word].textContent = original;
  else spans[word].replaceChildren(make("del", {}, original), make("ins", {}, corrected));
}

function choose(word, andPlay = false) {
  if (word < 0 || word >= data.words.length) return;
  spans[chosen]?.classList.remove("chosen");
  spans[chosen]?.removeAttribute("aria-current");
  chosen = word;
  spans[word].classList.add("chosen");
  spans[word].setAttribute("aria-current", "true");
  reveal(spans[word]);
  showPanel(word);
  const [text, start, , probability] = data.words[word];
  element("live").textContent = text.trim() + (probability < 0 ? "" : `, ${percent(probability)}`);
  if (andPlay) play(start);
  else seek(start);
}

function reveal(span) {
  const { top, bottom } = span.getBoundingClientRect();
  if (top < 90 || bottom > innerHeight - 30) span.scrollIntoView({ block: "center" });
}

function chooseSegment(by) {
  const number = chosen < 0 ? 0 : segmentOf[chosen] + by;
  if (data.segments[number]) choose(data.segments[number][2]);
}

function chooseDoubtful() {
  const limit = Number(element("limit").value);
  const count = data.words.length;
  for (let step = 1; step <= count; step++) {
    const word = (chosen + step) % count;
    const probability = data.words[word][PROBABILITY];
    if (probability >= 0 && probability < limit && !corrections.has(word)) return choose(word);
  }
  element("live").textContent = "no doubtful word is left";
}

// --- Search -------------------------------------------------------------------------------------------------------

let matches = [];
let match = -1;

const textOf = (word) => {
  const corrected = corrections.get(word);
  return corrected === undefined ? data.words[word][TEXT] : spaceBefore(word) + corrected;
};

function search(wanted) {
  matches.forEach((words) => words.forEach((word) => spans[word].classList.remove("found")));
  [matches, match] = [[], -1];
  const needle = wanted.trim().toLowerCase();
  if (needle) {
    let text = "";
    const starts = data.words.map((_, word) => {
      const start = text.length;
      text += textOf(word).toLowerCase();
      return start;
    });
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + needle.length)) {
      const first = starts.findLastIndex((start) => start <= at);
      const last = starts.findLastIndex((start) => start < at + needle.length);
      const words = Array.from({ length: last - first + 1 }, (_, step) => first + step);
      words.forEach((word) => spans[word].classList.add("found"));
      matches.push(words);
    }
  }
  element("matches").textContent = needle ? `${matches.length} found` : "";
}

function nextMatch() {
  if (!matches.length) return;
  match = (match + 1) % matches.length;
  choose(matches[match][0]);
  element("matches").textContent = `${match + 1} of ${matches.length}`;
}
