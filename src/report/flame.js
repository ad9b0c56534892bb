// SPDX-License-Identifier: GPL-2.0-or-later
// What a flame graph does when it is pointed at, clicked, searched or driven by keys.
"use strict";

// `graph` holds the frames: svg elements of the class "frame" with data-x and data-width (fractions
// of the whole), data-depth, a title and a name. `parts` are the elements beside it: details, search
// (an input), matched, reset. Returns what to call when the frames have been replaced.
function leakwatchFlame(graph, parts) {
    let frames = [];
    let byElement = new Map();
    let zoomed = null;
    let selected = null;
    const epsilon = 1e-7;

    function frameAt(target) {
        const element = target instanceof Element ? target.closest("svg.frame") : null;
        return byElement.get(element) || null;
    }

    function isWithin(inner, outer) {
        return inner.x >= outer.x - epsilon &&
            inner.x + inner.width <= outer.x + outer.width + epsilon;
    }

    function place(frame) {
        const base = zoomed || {x: 0, width: 1, depth: 0};
        const isAncestor = frame.depth < base.depth && isWithin(base, frame);
        const isShown = isAncestor || (frame.depth >= base.depth && isWithin(frame, base));
        const x = isAncestor ? 0 : (frame.x - base.x) / base.width;
        const width = isAncestor ? 1 : frame.width / base.width;

        frame.shown = isShown;
        frame.element.style.display = isShown ? "" : "none";
        frame.element.classList.toggle("above", isAncestor);
        frame.element.setAttribute("x", `${100 * x}%`);
        frame.element.setAttribute("width", `${100 * width}%`);
    }

    function zoom(frame) {
        zoomed = frame && frame.depth > 0 ? frame : null;
        frames.forEach(place);
        show(zoomed || selected);
    }

    function show(frame) {
        parts.details.textContent =
            frame ? frame.title.split("\n").join(" \u2014 ") : "";
    }

    // Arrow keys go from frame to frame; the one that is reached is told and outlined.
    function select(frame) {
        if (selected) {
            selected.element.classList.remove("selected");
        }
        selected = frame;
        if (frame) {
            frame.element.classList.add("selected");
            frame.element.scrollIntoView({block: "nearest"});
        }
        show(frame);
    }

    function search() {
        const wanted = parts.search.value.trim().toLowerCase();
        const matches = frames.filter(
            (frame) => wanted !== "" && frame.title.toLowerCase().includes(wanted));
        const isMatch = new Set(matches);
        const outermost = matches.filter(
            (frame) => !matches.some((other) => other.depth < frame.depth &&
                isWithin(frame, other)));
        const sum = outermost.reduce((total, frame) => total + frame.width, 0);

        frames.forEach((frame) => frame.element.classList.toggle("found", isMatch.has(frame)));
        parts.matched.textContent =
            wanted === "" ? "" : `${matches.length} found: ${(100 * sum).toFixed(1)}%`;
    }

    function reset() {
        parts.search.value = "";
        search();
        select(null);
        zoom(null);
    }

    function neighbour(key) {
        const from = selected || zoomed || frames[0];
        const shown = frames.filter((frame) => frame.shown);
        const level = (depth) => shown.filter((frame) => frame.depth === depth);

        switch (key) {
        case "ArrowUp":
            return level(from.depth - 1).find((frame) => isWithin(from, frame));
        case "ArrowDown":
            return level(from.depth + 1).find((frame) => isWithin(frame, from));
        case "ArrowLeft":
            return level(from.depth).filter((frame) => frame.x < from.x - epsilon).pop();
        case "ArrowRight":
            return level(from.depth).find((frame) => frame.x > from.x + epsilon);
        default:
            return undefined;
        }
    }

    function pressed(event) {
        const typing = event.target instanceof Element && event.target.closest("input, select");

        if (event.ctrlKey || event.altKey || event.metaKey) {
            return;
        }
        if (event.key === "Escape") {
            reset();
            parts.search.blur();
        } else if (typing || frames.length === 0) {
            return;
        } else if (event.key === "/") {
            parts.search.focus();
        } else if (event.key === "Enter" && selected) {
            zoom(selected);
        } else if (event.key === "Backspace") {
            zoom(frames.filter((frame) => zoomed && frame.depth === zoomed.depth - 1)
                .find((frame) => isWithin(zoomed, frame)) || null);
        } else if (event.key.startsWith("Arrow")) {
            select(neighbour(event.key) || selected || zoomed || frames[0]);
        } else {
            return;
        }
        event.preventDefault();
    }

    function renew() {
        frames = Array.from(graph.querySelectorAll("svg.frame"), (element) => ({
            element,
            x: Number(element.dataset.x),
            width: Number(element.dataset.width),
            depth: Number(element.dataset.depth),
            title: element.querySelector("title").textContent,
            shown: true,
        }));
        // from left to right, whatever the order in the file is
        frames.sort((a, b) => a.depth - b.depth || a.x - b.x);
        byElement = new Map(frames.map((frame) => [frame.element, frame]));
        zoomed = selected = null;
        show(null);
        search();
    }

    graph.addEventListener("mouseover", (event) => show(frameAt(event.target) || selected));
    graph.addEventListener("mouseleave", () => show(selected || zoomed));
    graph.addEventListener("click", (event) => {
        const frame = frameAt(event.target);
        if (frame) {
            select(null);
            zoom(frame);
        }
    });
    parts.search.addEventListener("input", search);
    parts.reset.addEventListener("click", reset);
    document.addEventListener("keydown", pressed);
    renew();
    return {renew};
}
