// SPDX-License-Identifier: GPL-2.0-or-later
// A flame graph that is a file of its own. What needs this script is shown only where it runs.
document.documentElement.setAttribute("width", "100%");
document.getElementById("controls").style.display = "";
leakwatchFlame(document.getElementById("graph"), {
    details: document.getElementById("details"),
    search: document.getElementById("search"),
    matched: document.getElementById("matched"),
    reset: document.getElementById("reset"),
});
