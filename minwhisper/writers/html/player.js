// The player. The recording is embedded, or beside the page; the spoken word is marked while it plays.

const audio = new Audio();
let ready = false; // the source is set when it is first needed, so that a large page opens at once
let spoken = -1;

const hasAudio = () => Boolean(element("audio").textContent || data.link);

function prepare() {
  if (ready || !hasAudio()) return ready;
  const embedded = element("audio").textContent;
  audio.src = embedded ? URL.createObjectURL(new Blob([bytesOf(embedded)], { type: "audio/ogg" })) : data.link;
  audio.preload = "auto";
  audio.playbackRate = Number(element("speed").value);
  return (ready = true);
}

function seek(milliseconds) {
  if (prepare()) audio.currentTime = milliseconds / 1000;
}

function play(milliseconds) {
  if (!prepare()) return;
  if (milliseconds !== undefined) audio.currentTime = milliseconds / 1000;
  audio.play().catch((error) => (element("live").textContent = `cannot play: ${error.message}`));
}

const toggle = () => (audio.paused ? play() : audio.pause());

function setSpeed(by) {
  const speeds = [...element("speed").options].map((option) => option.value);
  const at = Math.min(speeds.length - 1, Math.max(0, speeds.indexOf(element("speed").value) + by));
  element("speed").value = speeds[at];
  audio.playbackRate = Number(speeds[at]);
}

// The word at a time: the last that has begun.
function wordAt(milliseconds) {
  let [low, high] = [0, data.words.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data.words[middle][START] <= milliseconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function follow() {
  const now = audio.currentTime * 1000;
  element("clock").textContent = clock(now) + (data.duration ? ` / ${clock(data.duration)}` : "");
  const word = wordAt(now);
  if (word !== spoken) {
    spans[spoken]?.classList.remove("spoken");
    spans[word]?.classList.add("spoken");
    if (!audio.paused && spans[word]) reveal(spans[word]);
    spoken = word;
  }
  if (!audio.paused) requestAnimationFrame(follow);
}

for (const event of ["play", "pause", "seeked", "timeupdate"]) audio.addEventListener(event, () => follow());
for (const event of ["play", "pause"]) {
  audio.addEventListener(event, () => {
    element("play").textContent = audio.paused ? "Play" : "Pause";
    element("play").setAttribute("aria-pressed", String(!audio.paused));
  });
}
audio.addEventListener("error", () => (element("live").textContent = `the recording cannot be played: ${data.link}`));
