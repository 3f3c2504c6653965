const root = document.documentElement;
const speak = zh => { root.lang = zh ? "zh" : "en"; root.dataset.lang = root.lang; };
speak(/^zh/i.test((navigator.languages || [])[0] || navigator.language || ""));
addEventListener("DOMContentLoaded", () => {
  document.querySelector("header button").onclick = () => speak(root.lang !== "zh");
});
