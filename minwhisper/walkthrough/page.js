"use strict";
// What styles cannot do: fold the contents on narrow screens, mark the current section in them, and copy code.
// Without this script the contents are open at the top of the page, and code is copied by selecting it.

document.documentElement.classList.add("js");

addEventListener("DOMContentLoaded", () => {
  const contents = document.querySelector(".contents details");
  const wide = matchMedia("(min-width: 70rem)");
  const fold = () => { contents.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  const close = () => { if (!wide.matches) contents.open = false; };
  document.querySelector("main").addEventListener("click", close);
  contents.addEventListener("click", (event) => { if (event.target.closest("a")) close(); });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || wide.matches || !contents.open) return;
    close();
    contents.querySelector("summary").focus();
  });

  const links = [...contents.querySelectorAll("li a")];
  const headings = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  const mark = () => {
    const now = headings.findLastIndex((heading) => heading.getBoundingClientRect().top < innerHeight / 3);
    links.forEach((link, i) => i === now ? link.ariaCurrent = "location" : link.removeAttribute("aria-current"));
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();

  for (const code of document.querySelectorAll("pre.code")) {
    const button = document.createElement("button");
    button.className = "copy";
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      button.textContent = await copy(code) ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    const frame = document.createElement("div");
    frame.className = "framed";
    code.replaceWith(frame);
    frame.append(code, button);
  }

  // A link to a place inside a folded answer or listing opens it.
  const reveal = () => {
    const folded = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("main details");
    if (folded) folded.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();
});

// Copy a block's text; where the browser forbids that, select it, and return false.
async function copy(block) {
  try {
    await navigator.clipboard.writeText(block.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(block);
    return false;
  }
}
