/** The ways an image comes in: picked, dropped anywhere on the page, pasted, or a sample. */

import { byId } from "./dom.js";

/** Call `add(files)` whenever images come in, and `say(text)` where what came held none. */
export function listen(add, say) {
  const picker = byId("files");
  picker.addEventListener("change", () => {
    if (picker.files.length) add([...picker.files]);
    picker.value = ""; // so that the same file can be picked again
  });
  byId("samples").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-sample]");
    if (button) void addSample(button.dataset.sample, add, say);
  });
  listenForDrops(add, say);
  listenForPaste(add, say);
}

async function addSample(name, add, say) {
  try {
    const answer = await fetch(`demo/samples/${name}`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    add([new File([await answer.blob()], name, { type: "image/png" })]);
  } catch {
    say(`The sample ${name} could not be fetched: the server did not answer.`);
  }
}

function listenForDrops(add, say) {
  const zone = byId("drop");
  let within = 0;
  const inside = (change) => {
    within = Math.max(0, within + change);
    zone.classList.toggle("over", within > 0);
  };
  window.addEventListener("dragenter", () => inside(1));
  window.addEventListener("dragleave", () => inside(-1));
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault(); // or the browser would leave the page and open the file
    inside(-within);
    const files = [...event.dataTransfer.files];
    if (files.length) add(files);
    else say("What was dropped held no file. Save the image first, or copy and paste it.");
  });
}

function listenForPaste(add, say) {
  let pasted = 0;
  document.addEventListener("paste", (event) => {
    if (event.target.matches?.("input:not([type=file]), textarea")) return;
    const files = [...event.clipboardData.files].map((file) => {
      pasted += 1;
      const ending = file.name.includes(".") ? file.name.slice(file.name.lastIndexOf(".")) : "";
      return new File([file], file.name.startsWith("image.") ? `pasted-${pasted}${ending}` : file.name, { type: file.type });
    });
    if (files.length) add(files);
    else say("The clipboard holds no image.");
  });
}
