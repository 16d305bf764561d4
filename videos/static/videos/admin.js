// Names the parts of unfold's pages for screen readers: its templates have no main landmark, and two that share a name.
window.addEventListener("load", () => {
  document.querySelector("#main, #page")?.setAttribute("role", "main");
  for (const box of document.querySelectorAll(".simplebar-content-wrapper")) box.removeAttribute("role");
});
