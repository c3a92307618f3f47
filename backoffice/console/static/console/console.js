// What Unfold's modal leaves to do: focus goes into a dialog and back out of it, and an answer that is not a dialog
// (signed out, not allowed) is shown as the page that it is.
(function () {
  "use strict";
  let opener = null;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt.matches("a[data-dialog]")) opener = event.detail.elt;
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "modal-content" && event.detail.target.id !== "dialog") return;
    const dialog = document.getElementById("dialog");
    const first = dialog && dialog.querySelector(".errors input, .errors textarea, select, input:not([type=hidden]), textarea, .sd-submit");
    if (first) focusOnceShown(first, 30);
  });

  // The modal is shown by Alpine some frames after htmx has filled it; what is hidden cannot take the focus.
  function focusOnceShown(element, frames) {
    element.focus();
    if (document.activeElement !== element && frames > 0) {
      window.requestAnimationFrame(() => focusOnceShown(element, frames - 1));
    }
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const swapped = event.detail.target;
    if (!swapped || !["modal-content", "dialog", "dialog-preview"].includes(swapped.id)) return;
    if (!event.detail.serverResponse.includes('id="dialog"')) {
      event.detail.shouldSwap = false;
      window.location.assign(event.detail.requestConfig.elt.getAttribute("href") || window.location.href);
    }
  });

  document.addEventListener("htmx:responseError", (event) => {
    const href = event.detail.elt.getAttribute("href");
    if (href) window.location.assign(href);
  });

  document.addEventListener("keydown", (event) => {
    const dialog = document.getElementById("dialog");
    if (!dialog || dialog.offsetParent === null) return;
    if (event.key === "Escape" && opener) opener.focus();
    if (event.key !== "Tab") return;
    const stops = [...dialog.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea")].filter((stop) => !stop.disabled);
    const edge = event.shiftKey ? stops[0] : stops[stops.length - 1];
    if (document.activeElement === edge) {
      event.preventDefault();
      (event.shiftKey ? stops[stops.length - 1] : stops[0]).focus();
    }
  });
})();
