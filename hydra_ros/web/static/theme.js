// SPDX-License-Identifier: Apache-2.0
// Dark or light before anything is drawn: the user's choice, else the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* storage may be switched off */ }
  if (chosen) document.documentElement.dataset.theme = chosen;
})();
