"use strict";
for (const viewer of document.querySelectorAll(".viewer")) {
  const controls = viewer.querySelector(".controls");
  const slider = controls.querySelector("[type=range]");
  const show = () => {
    const chosen = Array.from(controls.querySelectorAll(":checked"), (one) => one.value).join(" ");
    for (const figure of viewer.querySelectorAll("figure")) {
      figure.hidden = figure.dataset.choice !== chosen;
    }
    viewer.style.setProperty("--opacity", slider.value / 100);
    slider.nextElementSibling.textContent = slider.value + " %";
  };
  controls.addEventListener("input", show);
  controls.hidden = false;
  show();
}
