// SPDX-License-Identifier: GPL-2.0-or-later
// Sizes over time, drawn as lines, and how sizes and times are written.
"use strict";

function leakwatchSize(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let value = Math.abs(bytes);
    let unit = 0;

    while (value >= 1024 && unit < units.length - 1) {
        value /= 1024;
        unit++;
    }
    const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    return `${bytes < 0 ? "-" : ""}${value.toFixed(digits)} ${units[unit]}`;
}

function leakwatchTime(seconds) {
    if (seconds < 60) {
        return `${seconds.toFixed(1)}s`;
    }
    const whole = Math.round(seconds);
    if (whole < 3600) {
        return `${Math.floor(whole / 60)}m ${whole % 60}s`;
    }
    return `${Math.floor(whole / 3600)}h ${Math.floor(whole % 3600 / 60)}m`;
}

function leakwatchElement(name, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);

    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) {
        element.textContent = text;
    }
    return element;
}

// `points` are [seconds, value or null...], in order of time; `series` are {name, colour, box}: a checkbox
// shows or hides each. `note` tells the values at the pointer.
function leakwatchPlot(svg, points, series, note) {
    const left = 80;
    const bottom = 24;
    const top = 8;
    let scale = null;

    // The least of 1, 2, 5, 10, ... times a power of `base` that is not below the value.
    function roundUp(value, base) {
        let unit = 1;
        while (value > unit * base) {
            unit *= base;
        }
        const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, base].find(
            (factor) => factor * unit >= value);
        return step * unit;
    }

    function shownColumns() {
        return series.map((one, index) => [one, index + 1]).filter(([one]) => one.box.checked);
    }

    function measure() {
        const width = Math.max(svg.clientWidth, 300);
        const height = svg.clientHeight || 200;
        const values = shownColumns().flatMap(([, column]) => points.map((point) => point[column]));
        const first = points[0][0];
        const last = points[points.length - 1][0];
        const largest = roundUp(Math.max(1, ...values), 1024);

        scale = {
            width, height, first, last, largest,
            x: (time) => left + (width - left - 10) *
                (last > first ? (time - first) / (last - first) : 0.5),
            y: (value) => top + (height - top - bottom) * (1 - value / largest),
        };
    }

    function drawAxes() {
        for (let i = 0; i <= 4; i++) {
            const value = scale.largest * i / 4;
            const y = scale.y(value);
            svg.append(
                leakwatchElement("line", {x1: left, x2: scale.width - 10, y1: y, y2: y,
                    class: "grid"}),
                leakwatchElement("text", {x: left - 6, y: y + 4, class: "end"},
                    leakwatchSize(value)));
        }
        const ticks = scale.last > scale.first ? [0, 1, 2, 3, 4] : [0];
        ticks.forEach((i) => {
            const time = scale.first + (scale.last - scale.first) * i / 4;
            const place = i === 4 ? "end" : "middle";
            svg.append(leakwatchElement("text", {x: scale.x(time), y: scale.height - 6,
                class: place}, leakwatchTime(time)));
        });
    }

    function draw() {
        svg.replaceChildren();
        if (points.length === 0) {
            return;
        }
        measure();
        drawAxes();
        shownColumns().forEach(([one, column]) => {
            const known = points.filter((point) => point[column] !== null);
            const corners = known.map(
                (point) => `${scale.x(point[0])},${scale.y(point[column])}`).join(" ");
            svg.append(leakwatchElement("polyline", {points: corners, stroke: one.colour,
                class: "series", "data-name": one.name}));
            known.forEach((point) => svg.append(leakwatchElement("circle",
                {cx: scale.x(point[0]), cy: scale.y(point[column]), r: 2.5, fill: one.colour})));
        });
        svg.append(leakwatchElement("line", {class: "pointer", y1: top,
            y2: scale.height - bottom, visibility: "hidden"}));
    }

    function tell(point) {
        const values = shownColumns().map(
            ([one, column]) => `${one.name} ${point[column] === null ? "unknown" : leakwatchSize(point[column])}`);
        note.textContent = `At ${leakwatchTime(point[0])}: ${values.join(", ")}`;
    }

    svg.addEventListener("mousemove", (event) => {
        if (!scale) {
            return;
        }
        const x = event.clientX - svg.getBoundingClientRect().left;
        const nearest = points.reduce((best, point) =>
            Math.abs(scale.x(point[0]) - x) < Math.abs(scale.x(best[0]) - x) ? point : best);
        const pointer = svg.querySelector(".pointer");
        pointer.setAttribute("x1", scale.x(nearest[0]));
        pointer.setAttribute("x2", scale.x(nearest[0]));
        pointer.setAttribute("visibility", "visible");
        tell(nearest);
    });
    svg.addEventListener("mouseleave", () => {
        note.textContent = "";
        draw();
    });
    series.forEach((one) => one.box.addEventListener("change", draw));
    new ResizeObserver(draw).observe(svg); // draws at once, too
}
