// The ways in which a picture comes to the page: dropped, chosen, pasted.

/** Call `take(file)` for each picture that somebody hands in; the first counts if they are several. */
export function listenForFiles({ input, stage, take }) {
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    // So that choosing the same file again is a change as well.
    input.value = "";
  });
  // The whole page takes what is dropped: beside the stage the browser would leave the page and show the file.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.add("is-target");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) stage.classList.remove("is-target");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("is-target");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
  });
}
