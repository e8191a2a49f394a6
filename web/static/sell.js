// Pictures that are added on the seller's desk: says at once which are too large, and shows how far
// their upload is.
"use strict";

(() => {
  const check = (input) => {
    const { maxBytes, maxFiles } = input.dataset;
    const files = [...input.files];
    const large = files.find((file) => file.size > Number(maxBytes));
    let text = large ? `${large.name} is too large: at most ${maxBytes / 1048576} MiB.` : "";
    if (files.length > Number(maxFiles)) text = `At most ${maxFiles} pictures at once.`;
    input.setCustomValidity(text);
    input.reportValidity();
  };

  const inputs = "input[type=file][data-max-bytes]";

  document.body.addEventListener("change", (event) => {
    if (event.target.matches(inputs)) check(event.target);
  });

  // A browser takes files that are dropped on to an input; those that are dropped beside it, it opens.
  document.body.addEventListener("dragover", (event) => {
    if (event.target.closest?.(".drop")) event.preventDefault();
  });

  document.body.addEventListener("drop", (event) => {
    const input = event.target.closest?.(".drop")?.querySelector(inputs);
    if (!input) return;
    event.preventDefault();
    if (event.dataTransfer?.files.length) input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  for (const [name, isOver] of [["dragenter", true], ["dragleave", false], ["drop", false]]) {
    document.body.addEventListener(name, (event) => {
      const box = event.target.closest?.(".drop");
      // what is dragged on to a part of the box has not left it
      if (name === "dragleave" && box?.contains(event.relatedTarget)) return;
      box?.classList.toggle("over", isOver);
    });
  }

  document.body.addEventListener("htmx:xhr:progress", (event) => {
    const progress = event.target.querySelector("progress");
    if (!progress || !event.detail.lengthComputable) return;
    progress.hidden = false;
    progress.value = event.detail.loaded / event.detail.total;
  });

  // A refusal says why, beside the fields.
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status !== 422) return;
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  });
})();
