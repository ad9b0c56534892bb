// SPDX-License-Identifier: GPL-2.0-or-later
// The page of a report: its data are a report as --format=json writes it, and the watch's history.
"use strict";

(function () {
    const data = JSON.parse(document.getElementById("data").textContent);
    const report = data.report;
    const get = (id) => document.getElementById(id);
    const count = (number) => Math.round(number).toLocaleString("en-US");
    const sum = (stacks, key) => stacks.reduce((total, stack) => total + stack[key], 0);

    // ---- names ----

    function frameName(frame) {
        if (frame.function !== null) {
            return frame.function;
        }
        return frame.module !== null ? `${frame.module}+0x${frame.offset.toString(16)}`
            : `0x${frame.address.toString(16)}`;
    }

    function framePlace(frame) {
        const line = frame.file !== null ? `${frame.file}:${frame.line} ` : "";
        return `${line}${frame.module !== null ? `(${frame.module})` : ""}`;
    }

    // Who asked: the first functions outside of the module that has the allocator.
    function askingFunctions(stack) {
        const outside = stack.frames.findIndex((frame) => frame.module !== stack.frames[0].module);
        const first = outside > 0 ? outside : 1;
        return stack.frames.slice(first, first + 3).map(frameName).join(" \u2190 ");
    }

    function searchText(stack) {
        return stack.frames.map((frame) => `${frameName(frame)} ${framePlace(frame)}`)
            .join("\n").toLowerCase();
    }

    report.stacks.forEach((stack) => {
        stack.text = searchText(stack);
        stack.asking = askingFunctions(stack);
        stack.oldest = stack.age_s.max;
    });

    // ---- what is chosen ----

    function chosenStacks() {
        const text = get("filter").value.trim().toLowerCase();
        const least = Number(get("least").value) * 1024;

        return report.stacks.filter((stack) => stack.text.includes(text) &&
            Math.max(stack.expired_bytes, stack.live_bytes) >= least &&
            (get("verdict").value === "" || stack.verdict === get("verdict").value) &&
            (!get("growing").checked || stack.delta_bytes > 0) &&
            (!get("kept").checked || stack.late_frees === 0) &&
            (!get("expired").checked || stack.expired_blocks > 0));
    }

    // ---- flame graph ----

    function hash(text) {
        let value = 2166136261;
        for (const byte of new TextEncoder().encode(text)) {
            value = Math.imul(value ^ byte, 16777619) >>> 0;
        }
        return value;
    }

    // As in --format=svg: a hue for each module, a tone for each function.
    function colour(frame) {
        if (frame === null) {
            return "#cccccc";
        }
        const hue = (hash(frame.module || "") >>> 8) % 24 * 15;
        const tone = hash(frame.function || "");
        return `hsl(${hue},${55 + (tone >>> 8) % 20}%,${66 + (tone >>> 16) % 12}%)`;
    }

    function newNode(name, frame) {
        return {name, frame, bytes: 0, blocks: 0, value: 0, children: new Map()};
    }

    function addTo(node, stack, weight) {
        const kind = weight.split("-")[0];
        node.bytes += stack[`${kind}_bytes`];
        node.blocks += stack[`${kind}_blocks`];
        node.value += stack[weight.replace("-", "_")];
    }

    function buildTree(stacks, weight) {
        const root = newNode("all", null);

        stacks.filter((stack) => stack[weight.replace("-", "_")] > 0).forEach((stack) => {
            let node = root;
            addTo(node, stack, weight);
            stack.frames.slice().reverse().forEach((frame) => {
                const key = `${frameName(frame)}\n${frame.module}`;
                if (!node.children.has(key)) {
                    node.children.set(key, newNode(frameName(frame), frame));
                }
                node = node.children.get(key);
                addTo(node, stack, weight);
            });
        });
        return root;
    }

    function drawFrame(graph, node, start, depth, total) {
        const x = start / total;
        const width = node.value / total;
        const element = leakwatchElement("svg", {class: "frame", x: `${100 * x}%`, y: 17 * depth,
            width: `${100 * width}%`, height: 16, "data-x": x, "data-width": width,
            "data-depth": depth});
        const title = [node.name, `${leakwatchSize(node.bytes)} (${count(node.bytes)} bytes) in ` +
            `${count(node.blocks)} blocks, ${(100 * width).toFixed(1)}%`];

        if (node.frame !== null) {
            title.push(framePlace(node.frame));
        }
        element.append(leakwatchElement("title", {}, title.join("\n")),
            leakwatchElement("rect", {width: "100%", height: "100%", fill: colour(node.frame)}),
            leakwatchElement("text", {x: 3, y: 12}, node.name));
        graph.append(element);
    }

    // Returns how deep it is.
    function drawTree(graph, node, start, depth, total) {
        let deepest = depth;

        drawFrame(graph, node, start, depth, total);
        Array.from(node.children.values()).sort((a, b) => b.value - a.value).forEach((child) => {
            if (child.value * 5000 >= total) {
                deepest = Math.max(deepest, drawTree(graph, child, start, depth + 1, total));
            }
            start += child.value;
        });
        return deepest;
    }

    let flame = null;

    function drawFlame(stacks) {
        const graph = get("graph");
        const root = buildTree(stacks, get("weight").value);

        graph.replaceChildren();
        const depth = root.value > 0 ? drawTree(graph, root, 0, 0, root.value) : 0;
        graph.setAttribute("height", 17 * (depth + 1));
        get("empty").hidden = root.value > 0;
        if (flame === null) {
            flame = leakwatchFlame(graph, {details: get("details"), search: get("search"),
                matched: get("matched"), reset: get("reset")});
        } else {
            flame.renew();
        }
    }

    // ---- table ----

    const signedSize = (bytes) => `${bytes >= 0 ? "+" : ""}${leakwatchSize(bytes)}`;
    const columns = [
        {key: "id", name: "Stack", show: String},
        {key: "verdict", name: "Verdict", show: String},
        {key: "expired_bytes", name: "Expired", show: leakwatchSize},
        {key: "expired_blocks", name: "Blocks", show: count},
        {key: "delta_bytes", name: "Change", show: signedSize},
        {key: "growth_bytes_per_minute", name: "A minute", show: (bytes) =>
            bytes === null ? "" : signedSize(bytes)},
        {key: "live_bytes", name: "Live", show: leakwatchSize},
        {key: "live_blocks", name: "Blocks", show: count},
        {key: "allocs", name: "Allocations", show: count},
        {key: "late_frees", name: "Late frees", show: count},
        {key: "oldest", name: "Oldest", show: leakwatchTime},
        {key: "asking", name: "Asked for by", show: String},
    ];
    const order = {key: data.weight.replace("-", "_"), descending: true};

    function compare(a, b) {
        const [x, y] = [a[order.key], b[order.key]];
        const result = typeof x === "string" ? x.localeCompare(y) : x - y;
        return order.descending ? -result : result;
    }

    function drawHead() {
        get("head").replaceChildren(...columns.map((column) => {
            const head = document.createElement("th");
            const button = document.createElement("button");
            const isSorted = column.key === order.key;

            head.scope = "col";
            button.textContent = column.name;
            if (isSorted) {
                head.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
            }
            button.dataset.key = column.key;
            button.addEventListener("click", () => {
                order.descending = column.key === order.key ? !order.descending
                    : !["asking", "id", "verdict"].includes(column.key);
                order.key = column.key;
                drawTable(chosenStacks());
            });
            head.append(button);
            return head;
        }));
    }

    function framesRow(stack) {
        const row = document.createElement("tr");
        const cell = row.insertCell();
        const list = document.createElement("ol");

        const reason = document.createElement("p");

        row.className = "frames";
        cell.colSpan = columns.length;
        reason.textContent = `${stack.verdict}: ${stack.reason}`;
        stack.frames.forEach((frame) => {
            const item = document.createElement("li");
            const place = document.createElement("span");
            item.textContent = `${frameName(frame)}${frame.inlined ? " [inlined]" : ""} `;
            place.textContent = framePlace(frame);
            item.append(place);
            list.append(item);
        });
        cell.append(reason, list);
        return row;
    }

    function stackRow(stack) {
        const row = document.createElement("tr");

        row.className = "stack";
        row.tabIndex = 0;
        columns.forEach((column) => {
            const cell = row.insertCell();
            cell.textContent = column.show(stack[column.key]);
            cell.className = column.key === "verdict" ? `verdict ${stack.verdict}`
                : typeof stack[column.key] === "string" ? "name" : "number";
            if (column.key === "verdict") {
                cell.title = stack.reason;
            }
        });
        const toggle = () => {
            if (row.nextSibling && row.nextSibling.className === "frames") {
                row.nextSibling.remove();
            } else {
                row.after(framesRow(stack));
            }
        };
        row.addEventListener("click", toggle);
        row.addEventListener("keydown", (event) => {
            if (event.key === "Enter") {
                toggle();
                event.stopPropagation();
            }
        });
        return row;
    }

    function drawTable(stacks) {
        drawHead();
        get("rows").replaceChildren(...stacks.slice().sort(compare).map(stackRow));
        get("shown").textContent = `${count(stacks.length)} of ${count(report.stacks.length)} ` +
            `stacks: expired ${leakwatchSize(sum(stacks, "expired_bytes"))} in ` +
            `${count(sum(stacks, "expired_blocks"))} blocks, ` +
            `live ${leakwatchSize(sum(stacks, "live_bytes"))} in ` +
            `${count(sum(stacks, "live_blocks"))} blocks`;
    }

    // ---- all of it ----

    function describe() {
        const rss = report.rss_bytes > 0 ? `; RSS ${leakwatchSize(report.rss_bytes)}` : "";
        const left = data.left_out, hidden = data.report.suppressed;

        get("title").textContent = document.title;
        get("summary").textContent =
            `Expired: ${leakwatchSize(report.expired.bytes)} in ${count(report.expired.blocks)} ` +
            `blocks older than ${leakwatchTime(report.expire_s)}; ` +
            `live: ${leakwatchSize(report.live.bytes)} in ${count(report.live.blocks)} ` +
            `blocks${rss}`;
        get("when").textContent = `${report.time}, ${leakwatchTime(report.elapsed_s)} into the ` +
            `watch${report.sample_bytes > 0 ? "; estimated from samples" : ""}` +
            (left.stacks > 0 ? `; ${count(left.stacks)} smaller stacks with ` +
            `${leakwatchSize(left.live_bytes)} live are not on this page` : "") +
            (hidden.stacks > 0 ? `; ${leakwatchSize(hidden.bytes)} expired are suppressed ` +
            `(stacks: ${count(hidden.stacks)})` : "");
    }

    function describeMark() {
        const mark = report.mark;

        if (mark === undefined) {
            return;
        }
        const share = mark.allocated.bytes > 0 ? mark.live.bytes / mark.allocated.bytes : 0;
        get("marked").hidden = false;
        get("marked").textContent = `Marked, from ${leakwatchTime(mark.from_s)} to ` +
            `${leakwatchTime(mark.to_s)}${mark.open ? " (still open)" : ""}: ` +
            `${leakwatchSize(mark.allocated.bytes)} in ${count(mark.allocated.blocks)} blocks; ` +
            `still live: ${leakwatchSize(mark.live.bytes)} in ${count(mark.live.blocks)} blocks, ` +
            `${Number((100 * share).toPrecision(3))}%`;
    }

    function draw() {
        const stacks = chosenStacks();
        drawFlame(stacks);
        drawTable(stacks);
    }

    describe();
    describeMark();
    get("weight").value = data.weight;
    get("expired").checked = data.weight.startsWith("expired") && report.expired.blocks > 0;
    ["filter", "least", "verdict", "growing", "kept", "expired", "weight"].forEach(
        (id) => get(id).addEventListener("input", draw));
    // where it is far above the others, it would make them flat
    get("plot-rss").checked = report.rss_bytes <= 20 * Math.max(1, report.live.bytes);
    leakwatchPlot(get("plot"), data.history, [
        {name: "live", colour: "#1f77b4", box: get("plot-live")},
        {name: "expired", colour: "#d62728", box: get("plot-expired")},
        {name: "RSS", colour: "#7f7f7f", box: get("plot-rss")},
    ], get("note"));
    draw();
}());
