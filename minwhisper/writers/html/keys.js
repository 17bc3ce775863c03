// The toolbar and the keyboard, and the start of the program.

const HELP = "space: play, ← →: word, ↑ ↓: segment, n: next doubtful word, Enter: correct, /: search, - +: speed";

const KEYS = {
  " ": () => toggle(),
  ArrowRight: () => choose(chosen + 1),
  ArrowLeft: () => choose(chosen - 1),
  ArrowDown: () => chooseSegment(1),
  ArrowUp: () => chooseSegment(-1),
  n: () => chooseDoubtful(),
  Enter: () => chosen >= 0 && edit(chosen),
  "/": () => element("search").focus(),
  "+": () => setSpeed(1),
  "-": () => setSpeed(-1),
};

function showToolbar() {
  const button = (id, text, click) => make("button", { id, type: "button", click }, text);
  const option = (value, text = value) => make("option", { value }, text);
  const speed = make("select", { id: "speed", "aria-label": "Speed", change: () => setSpeed(0) },
    ...["0.5", "0.75", "1", "1.25", "1.5", "1.75", "2"].map((value) => option(value, `${value}×`)));
  const limit = make("select", { id: "limit", "aria-label": "A word is doubtful below" },
    ...LEVELS.map((value) => option(value, `below ${value / 10} %`)));
  const formats = make("select", { id: "download", "aria-label": "Download",
    change: (event) => { if (event.target.value) download(event.target.value); event.target.value = ""; } },
  option("", "Download …"), ...Object.keys(FORMATS).map((format) => option(format, format.toUpperCase())));
  const find = make("input", { id: "search", type: "search", placeholder: "Search", "aria-label": "Search the text",
    input: (event) => search(event.target.value) });
  find.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") nextMatch();
    if (event.key === "Escape") element("text").focus();
  });
  const parts = [find, make("span", { id: "matches", role: "status" }), formats, button("copy", "Copy", copyText)];
  const doubtful = [button("doubtful", "Next doubtful", chooseDoubtful), limit];
  const player = [button("play", "Play", toggle), make("span", { id: "clock" }), speed];
  if (data.words.some((word) => word[PROBABILITY] >= 0)) parts.unshift(...doubtful);
  else limit.hidden = true;
  element("bar").append(...player, ...parts);
  if (!hasAudio()) element("play").disabled = true;
  speed.value = "1";
  limit.value = "400";
  element("bar").hidden = false;
}

function showFacts() {
  const facts = [data.duration && clock(data.duration), `${data.words.length} words`, data.language, data.model];
  if (!data.timed) facts.push("times within segments are estimated");
  element("facts").append(facts.filter(Boolean).join(" · "), make("br"), make("small", {}, HELP));
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, button");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !data || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

unpack().then(() => {
  restore();
  showToolbar();
  showText();
  showFacts();
  if (hasAudio()) follow();
  document.documentElement.dataset.ready = "true";
});
