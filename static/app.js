/* Progressive enhancement: every page works without this file. No storage, no eval, no inline handlers. */
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const on = (name, handler, capture = false) => document.addEventListener(name, handler, capture);
  const say = (text) => { const live = $("#live"); live.textContent = ""; setTimeout(() => { live.textContent = text; }, 50); };
  document.documentElement.classList.add("js");

  /* Times: 304 answers leave the words alone, so they are kept true here, by the server's clock. */
  const skew = Number(document.documentElement.dataset.now) * 1000 - Date.now();
  const unit = (s) => s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 86400 ? `${Math.floor(s / 3600)} h` : s < 172800 ? "1 day" : `${Math.floor(s / 86400)} days`;
  const ticker = () => all("time[data-ago]").forEach((time) => {
    const seconds = Math.trunc((Date.now() + skew - Date.parse(time.dateTime)) / 1000);
    if (Math.abs(seconds) >= 7 * 86400) return;
    const words = seconds < 0 ? `in ${unit(-seconds)}` : `${unit(seconds)} ago`;
    if (time.textContent !== words) time.textContent = words;
  });

  /* Polling: <div id="…" data-poll="5" hx-get="…" hx-trigger="poll" hx-swap="outerHTML" data-etag="…">.
     Only visible pages ask; a form being filled in, a selection or an open menu is never swapped away. */
  const due = new Map();
  const tags = new WeakMap();
  const inUse = (element) => {
    const active = document.activeElement, selection = getSelection();
    return element.contains(active) && active.matches("input, textarea, select")
      || $("form[data-dirty], form[data-busy], details.menu[open], dialog[open]", element)
      || element.closest("form[data-dirty]")
      || selection && !selection.isCollapsed && element.contains(selection.anchorNode);
  };
  const poll = (element) => {
    const period = Number(element.dataset.poll) * 1000;
    if (!element.id || !period) return;
    const now = performance.now();
    if (!due.has(element.id)) due.set(element.id, now + period * (0.5 + Math.random() / 2));
    if (due.get(element.id) > now || inUse(element)) return;
    due.set(element.id, now + period * (0.8 + Math.random() / 5));
    window.htmx?.trigger(element, "poll");
  };
  const tick = () => { if (!document.hidden) { ticker(); all("[data-poll]").forEach(poll); } };
  setInterval(tick, 500);
  const pollNow = () => { due.forEach((_, id) => due.set(id, 0)); tick(); };
  on("visibilitychange", () => { if (!document.hidden) pollNow(); });
  on("poll-now", pollNow);  // HX-Trigger-After-Settle: what was saved shows elsewhere on the page

  const isPoll = (detail) => detail.requestConfig?.triggeringEvent?.type === "poll";
  on("htmx:configRequest", ({ detail }) => {
    if (detail.triggeringEvent?.type !== "poll") return;
    const tag = tags.has(detail.elt) ? tags.get(detail.elt) : detail.elt.dataset.etag;
    if (tag) detail.headers["If-None-Match"] = tag;
  });
  on("htmx:afterSwap", ({ detail }) => {  // another answer drew over it: what it shows is no longer that ETag
    if (!isPoll(detail)) all("[data-poll]").forEach((element) => { if (element.contains(detail.target)) tags.set(element, ""); });
  });
  const polled = (detail) => {
    const element = document.getElementById(detail.requestConfig.elt.id);
    if (!element) return;
    if (detail.xhr.status === 286) element.removeAttribute("data-poll");
    if (detail.xhr.status === 200) tags.set(element, detail.xhr.getResponseHeader("ETag") ?? "");
  };

  /* Swaps keep open details open; a poll also keeps closed ones closed. */
  let kept = [];
  on("htmx:beforeSwap", ({ detail }) => {
    const type = detail.xhr.getResponseHeader("Content-Type") ?? "";
    if (detail.shouldSwap && type.startsWith("text/html") && /^\s*<!doctype/i.test(detail.xhr.responseText) && detail.target !== document.body) {
      detail.shouldSwap = false;  // a whole page, most likely sign-in: never inside a panel
      if (detail.xhr.status === 413) network("This is too much at once. Nothing was saved.", detail);
      else network("Your session has ended. Nothing was saved. Sign in again in a new tab, then go on here.", detail, true);
      detail.xhr.refused = true;
      return;
    }
    kept = detail.target ? all(isPoll(detail) ? "details[id]" : "details[open][id]", detail.target).map(({ id, open }) => [id, open]) : [];
    carry(detail);
  });
  on("htmx:afterSwap", () => { kept.forEach(([id, open]) => { const d = document.getElementById(id); if (d) d.open = open; }); kept = []; });

  /* The network, in one line at the top. */
  const network = (text, detail, signIn = false) => {
    const banner = $("#network");
    if (!banner) return;
    $("[data-text]", banner).textContent = text;
    $("[data-sign-in]", banner).hidden = !signIn;
    banner.dataset.by = isPoll(detail) ? "poll" : "act";
    banner.hidden = false;
  };
  const at = () => new Date(Date.now() + skew).toISOString().slice(11, 19) + " UTC";
  const lost = (detail, what) => network(isPoll(detail) ? `${what} This page shows what was true before ${at()}; it goes on trying.` : `${what} Nothing was confirmed as saved. Check and try again.`, detail);
  const gone = (detail) => {  // for good: what was polled is asked for no more, and no other poll's answer takes the line away
    network(`This no longer exists, or you may no longer see it.${isPoll(detail) ? "" : " Nothing was saved."}`, detail);
    if (!isPoll(detail)) return;
    $("#network")?.setAttribute("data-by", "gone");
    document.getElementById(detail.requestConfig.elt.id)?.removeAttribute("data-poll");
  };
  on("htmx:sendError", ({ detail }) => lost(detail, "The portal does not answer."));
  on("htmx:timeout", ({ detail }) => lost(detail, "The portal took too long to answer."));
  on("htmx:responseError", ({ detail }) => {
    const status = detail.xhr.status, token = detail.xhr.getResponseHeader("X-CSRF-Token");
    if (token) {  // signed in again in another tab: what this page sends next is accepted
      all("input[name=csrfmiddlewaretoken]").forEach((input) => { input.value = token; });
      network("Nothing was saved: this page is from before you signed in again. Send it once more.", detail);
    }
    else if (status === 401 || status === 403) network(status === 401 ? "Your session has ended. Nothing was saved. Sign in again in a new tab, then go on here." : "The portal refused: you were signed out, or your roles do not allow this. Nothing was saved.", detail, true);
    else if (status === 404) gone(detail);
    else if (status === 429) network("Too many requests. Wait a minute and try again. Nothing was saved.", detail);
    else lost(detail, `The portal failed to answer (${status}).`);
  });
  on("htmx:afterRequest", ({ detail }) => {
    if (isPoll(detail)) polled(detail);
    const banner = $("#network"), answered = [409, 413, 422].includes(detail.xhr.status) || detail.xhr.status >= 200 && detail.xhr.status < 400;
    if (banner && answered && !detail.xhr.refused && (!isPoll(detail) || banner.dataset.by === "poll")) banner.hidden = true;
    release(detail.requestConfig.elt);
    detail.target?.removeAttribute("aria-busy");
  });

  /* One act, one request: a form or button in flight takes no second one. */
  const buttons = (element) => element.matches?.("form") ? all("button:not([type=button]), input[type=submit]", element).concat(element.id ? all(`button[form="${CSS.escape(element.id)}"]`) : []) : element.matches?.("button") ? [element] : [];
  const hold = (element, pressed) => {
    element.dataset.busy = "";
    buttons(element).forEach((button) => { button.setAttribute("aria-disabled", "true"); if (button === pressed || element === button) button.setAttribute("aria-busy", "true"); });
  };
  const release = (element) => {
    if (element?.dataset?.busy === undefined) return;
    delete element.dataset.busy;
    buttons(element).forEach((button) => { button.removeAttribute("aria-disabled"); button.removeAttribute("aria-busy"); });
  };
  const byHtmx = (element) => element?.matches("[hx-post], [hx-get], [hx-put], [hx-patch], [hx-delete]");
  let pressed = null;
  on("submit", (event) => {
    const form = event.target;
    pressed = event.submitter;
    if (form.dataset.busy !== undefined || pressed?.getAttribute("aria-disabled") === "true") { event.preventDefault(); event.stopImmediatePropagation(); return; }
    if (form.method === "dialog" || byHtmx(form) || byHtmx(pressed)) return;
    leaving = true;
    if (form.dataset.repeat !== undefined) return;
    setTimeout(() => { if (event.defaultPrevented) { leaving = false; return; } hold(form, pressed); setTimeout(() => release(form), 15000); });
  }, true);
  on("click", (event) => { if (event.target.closest("[aria-disabled=true]")) { event.preventDefault(); event.stopImmediatePropagation(); } }, true);
  on("htmx:beforeRequest", (event) => {
    const { elt, target, requestConfig } = event.detail;
    if (isPoll(event.detail)) return;
    const dirty = requestConfig.verb === "get" && elt.dataset.carry === undefined && target && ($("form[data-guard][data-dirty]", target) ?? target.closest("form[data-guard][data-dirty]"));
    if (dirty && !confirm("Leave without saving? Your unsaved changes are lost.")) { event.preventDefault(); return; }
    if (elt.matches("form, button")) hold(elt, pressed);
    target?.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", () => { leaving = false; all("[data-busy]").forEach(release); });

  /* Unsaved changes, compared with what the server rendered; no copy of a value is kept. */
  let leaving = false;
  const changed = (control) => {
    if (!control.name || control.type === "hidden" || control.disabled || control.closest("[data-unguarded]")) return false;
    if (control.type === "checkbox" || control.type === "radio") return control.checked !== control.defaultChecked;
    if (control.tagName === "SELECT") return [...control.options].some((option, i) => option.selected !== (control.matches(":has(option[selected])") || control.multiple ? option.defaultSelected : i === 0));
    return control.type === "file" ? control.files.length > 0 : "defaultValue" in control && control.value !== control.defaultValue;
  };
  /* Of the dialog only what was touched is sent, a field's inputs together: the server takes what is missing as unchanged.
     Not of a page that shows a refused save, whose defaults are what was typed. */
  on("formdata", ({ target, formData }) => {
    if (target.dataset.sparse === undefined) return;
    all("[data-ext]", target).forEach((row) => {
      const controls = all("input, textarea", row);
      if (!controls.some(changed)) controls.forEach((control) => formData.delete(control.name));
    });
  });
  const guard = (form) => form && form.toggleAttribute("data-dirty", [...form.elements].some(changed));
  on("input", ({ target }) => guard(target.form?.closest("form[data-guard]")));
  on("change", ({ target }) => guard(target.form?.closest("form[data-guard]")));
  on("reset", ({ target }) => setTimeout(() => guard(target.closest("form[data-guard]"))));
  addEventListener("beforeunload", (event) => { if (!leaving && $("form[data-guard][data-dirty]")) event.preventDefault(); });

  /* Secrets: masking, and a warning instead of a silent trim. Closing the part empties it. */
  const KIB = 65536;
  const doubt = (text) => {
    if (!text) return "";
    if (/^(<encrypted>|[*•●]+)$/i.test(text.trim())) return "This looks like a mask, not a value. It will be refused.";
    const size = new TextEncoder().encode(text).length;
    if (size > KIB) return `This is ${Math.ceil(size / 1024)} KiB long; 64 KiB is the limit.`;
    const found = [];
    if (/^\s/.test(text)) found.push(/^\s*[\r\n]/.test(text) ? "starts with a line break" : "starts with a space");
    if (/\s$/.test(text)) found.push(/[\r\n]\s*$/.test(text) ? "ends with a line break" : "ends with a space");
    return found.length ? `The value ${found.join(" and ")}. It will be saved as typed.` : "";
  };
  on("input", ({ target }) => {
    if (target.dataset.secretValue === undefined) return;
    const note = document.getElementById(`${target.id}_warning`), text = doubt(target.value);
    if (note && note.textContent !== text) note.textContent = text;
  });
  on("toggle", ({ target }) => {
    if (!target.matches?.("details[data-secret]")) return;
    const value = $("[data-secret-value]", target);
    if (target.open) { value.focus(); return; }
    value.value = "";
    value.dispatchEvent(new Event("input", { bubbles: true }));
  }, true);

  /* Copy, download, show, close */
  const copy = async (button) => {
    const source = $(button.dataset.copy), text = source?.value ?? source?.textContent ?? button.dataset.copyText ?? "";
    const label = $("[data-label]", button) ?? button;
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch {
      if (source) getSelection().selectAllChildren(source);
      done = false;
    }
    const before = label.dataset.before ??= label.textContent;
    label.textContent = done ? "Copied" : "Press Ctrl+C";
    say(done ? "Copied" : "Selected. Press Control and C to copy.");
    clearTimeout(button.timer);
    button.timer = setTimeout(() => { label.textContent = before; }, 2500);
  };
  const download = (button) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([$(button.dataset.download).textContent], { type: "text/plain" }));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const show = (button) => {
    const shown = $(button.dataset.show).classList.toggle("shown");
    button.setAttribute("aria-pressed", String(shown));
    button.textContent = shown ? "Hide" : "Show";
  };
  const open = (link) => {
    const local = link.dataset.dialog && $(link.dataset.dialog), dialog = local || $("#dialog");
    if (!dialog?.showModal || !local && !window.htmx) return false;
    if (local) dialog.showModal();
    else htmx.ajax("GET", link.getAttribute("href"), { source: link, target: dialog, swap: "innerHTML" }).then(() => { if (dialog.childElementCount && !dialog.open) dialog.showModal(); });
    return true;
  };
  on("click", (event) => {
    const { target } = event, plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
    const button = target.closest("[data-copy], [data-copy-text], [data-download], [data-show], [data-hide], [data-close]");
    if (button?.matches("[data-copy], [data-copy-text]")) copy(button);
    else if (button?.dataset.download) download(button);
    else if (button?.dataset.show) show(button);
    else if (button?.dataset.hide) $(button.dataset.hide).hidden = true;
    else if (button) { event.preventDefault(); button.closest("dialog")?.close(); }
    const link = target.closest("[data-dialog]");
    if (link && plain && open(link)) event.preventDefault();
    if (target.matches("dialog") && target.open) {  // the backdrop
      const box = target.getBoundingClientRect();
      if (event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom) target.close();
    }
    all("details.menu[open]").forEach((menu) => { if (!menu.contains(target)) menu.open = false; });
  });
  on("close", ({ target }) => { if (target.id === "dialog") target.replaceChildren(); }, true);
  on("close-dialog", () => all("dialog[open]").forEach((dialog) => dialog.close()));
  on("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = event.target.closest?.("details.menu[open]") ?? $("details.menu[open]");
    if (menu) { event.preventDefault(); menu.open = false; $("summary", menu).focus(); }  // not the pane or dialog around it too
  });
  on("focusout", ({ relatedTarget }) => { if (relatedTarget) all("details.menu[open]").forEach((menu) => { if (!menu.contains(relatedTarget)) menu.open = false; }); });

  /* Files: name and size in words. Filters: rows that do not match are hidden, groups without rows too. */
  const chosen = (input) => {
    const file = input.files[0], facts = $(input.dataset.file);
    facts.textContent = file ? `${file.name}, ${file.size < 1024 ? `${file.size} bytes` : `${(file.size / 1024).toFixed(1)} KB`}` : facts.dataset.empty ?? "";
    if (!file) $("#kms-check")?.replaceChildren();
  };
  on("change", ({ target }) => { if (target.dataset?.file) chosen(target); });
  /* A box that needs a switch (data-needs) cannot be ticked while that is off. */
  const needs = () => all("[data-needs]").forEach((box) => { box.disabled = !$(box.dataset.needs)?.checked; });
  on("change", ({ target }) => { if (target.matches("[role=switch]")) needs(); });
  on("reset", () => setTimeout(() => { needs(); all("[data-file]").forEach(chosen); }));
  const filter = (input, announce) => {
    const list = $(input.dataset.filter);
    if (!list) return;
    const wanted = input.value.trim().toLowerCase();
    const fits = (element) => (element.dataset.text ?? element.textContent).toLowerCase().includes(wanted);
    all("[data-group]", list).concat(list).forEach((group) => {
      const title = $("[data-group-title]", group), whole = group !== list && title && fits(title);
      all("[data-row]", group).forEach((row) => { if (group !== list || !row.closest("[data-group]")) row.hidden = !!wanted && !whole && !fits(row); });
      if (group !== list) group.hidden = !!wanted && !whole && !$("[data-row]:not([hidden])", group);
    });
    const rows = all("[data-row]", list), shown = rows.filter((row) => !row.hidden && !row.closest("[data-group][hidden]")).length;
    if (announce) say(wanted ? `${shown} of ${rows.length} shown` : `All ${rows.length} shown`);
    const none = $("[data-none]", list);
    if (none) none.hidden = !wanted || shown > 0;
  };
  let typing = 0;
  on("input", ({ target }) => { if (target.dataset.filter) { filter(target, false); clearTimeout(typing); typing = setTimeout(() => filter(target, true), 600); } });

  /* Rows added by a button: the content of a <template> with the next number for __prefix__. */
  const add = (button) => {
    const list = $(button.dataset.to), total = button.dataset.total && $(button.dataset.total);
    const n = total ? Number(total.value) : Math.max(-1, ...all("[data-n]", list).map((row) => Number(row.dataset.n))) + 1;
    list.insertAdjacentHTML("beforeend", $(button.dataset.add).innerHTML.replaceAll("__prefix__", n));
    if (total) total.value = n + 1;
    return list.lastElementChild;
  };
  on("click", ({ target }) => { const button = target.closest("[data-add]"); if (button) $("input:not([type=hidden]), textarea", add(button)).focus(); });

  /* Environment extensions: one connection at a time, a filter, a search. They only hide, so one Save still takes everything. */
  const seen = { section: null, only: null, text: null };
  const narrow = (announce) => {
    const form = $("form[data-extensions]"), list = form && $("#extensions-list", form);
    if (!list) return;
    const choice = $("[data-sections]", form), links = all("[data-only] a", form), search = $("[data-search]", form);
    if (seen.section === null) {
      const asked = new URLSearchParams(location.search);
      seen.section = asked.has("connection") || asked.has("show") || $("[data-error-for], #removal-confirm") || choice.options.length < 4 ? choice.value : choice.options[1].value;
      seen.only = $("[data-only] [aria-current]", form)?.dataset.value ?? "all";
      seen.text = search.value;
    }
    if (![...choice.options].some((option) => option.value === seen.section)) seen.section = "";
    choice.value = seen.section;
    if (search.value !== seen.text) search.value = seen.text;
    links.forEach((link) => link.dataset.value === seen.only ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
    const wanted = seen.text.trim().toLowerCase();
    let shown = 0;
    all("[data-section]", list).forEach((section) => {
      const title = $("h2", section).textContent.toLowerCase().includes(wanted);
      let some = !wanted && seen.only === "all";
      all("[data-ext]", section).forEach((row) => {
        const fits = (title || row.dataset.text.toLowerCase().includes(wanted)) && (seen.only === "all" || row.dataset.state === seen.only);
        row.hidden = !fits && !$("[aria-invalid=true]", row);
        if (!row.hidden) some = true;
      });
      section.hidden = !some || !wanted && seen.section !== "" && section.dataset.section !== seen.section;
      if (!section.hidden) shown += all("[data-ext]:not([hidden])", section).length;
    });
    $("[data-none]", list).hidden = all("[data-section]:not([hidden])", list).length > 0;
    if (announce) say(`${shown} shown`);
  };
  const remember = () => {
    const asked = new URLSearchParams(location.search);
    asked.delete("q");
    asked.set("connection", seen.section);  // an empty one too: without it a reload would choose the first connection
    if (seen.only === "all") asked.delete("show"); else asked.set("show", seen.only);
    history.replaceState(history.state, "", location.pathname + (asked.size ? `?${asked}` : ""));
  };
  on("change", ({ target }) => { if (target.dataset.sections) { seen.section = target.value; narrow(true); remember(); } });
  on("input", ({ target }) => { if (target.dataset.search) { seen.text = target.value; narrow(false); clearTimeout(typing); typing = setTimeout(() => narrow(true), 600); } });
  on("keydown", (event) => { if (event.key === "Enter" && event.target.dataset.search) event.preventDefault(); });
  on("click", (event) => {
    const link = event.target.closest("[data-only] a"), clear = event.target.closest("[data-clear-search]");
    if (!clear && (!link || event.ctrlKey || event.metaKey || event.shiftKey)) return;
    event.preventDefault();
    if (link) Object.assign(seen, { section: "", only: link.dataset.value });  // its count is of all connections
    else Object.assign(seen, { section: "", only: "all", text: "" });
    narrow(true);
    remember();
  });

  /* "Use connection component value": the input waits, empty, and gives its text back when the box is unticked. */
  const inherit = (box, act) => {
    const input = $(box.dataset.component);
    input.readOnly = box.checked;
    input.placeholder = box.checked ? input.dataset.inherited : "Not set";
    if (!act) return;
    if (box.checked) { input.kept = input.value; input.value = ""; } else { input.value = input.kept ?? input.value; input.focus(); }
    guard(box.form);
  };
  on("change", ({ target }) => { if (target.dataset.component) inherit(target, true); });

  /* A refused save: every error beside its input, which stays as it is. */
  const mark = () => {
    all("[data-marked]").forEach((note) => note.remove());
    all("[data-mark]").forEach((input) => { input.removeAttribute("aria-invalid"); input.removeAttribute("data-mark"); });
    const links = all("[data-error-for]");
    links.forEach((link) => {
      const input = document.getElementById(link.dataset.errorFor);
      if (!input || input.getAttribute("aria-invalid") === "true") return;
      const note = Object.assign(document.createElement("div"), { className: "error", id: `${input.id}_error`, textContent: link.dataset.error });
      note.dataset.marked = "";
      input.after(note);
      if (!input.matches("input, textarea, select")) return;
      input.setAttribute("aria-invalid", "true");
      input.dataset.mark = "";
      const named = (input.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => id && id !== note.id);
      input.setAttribute("aria-describedby", [...named, note.id].join(" "));
    });
    if (links.length && seen.section !== null) { Object.assign(seen, { only: "all", text: "" }); if (links.some((link) => document.getElementById(link.dataset.errorFor)?.closest("[data-section]")?.dataset.section !== seen.section)) seen.section = ""; }
  };

  /* After a conflict the current values are loaded and what was typed is put back over them, in this page's memory only.
     A box that removes a stored value is not: what it would remove may be another value now. */
  let carried = null;
  const carry = ({ requestConfig, xhr }) => {
    if (requestConfig?.elt.dataset.carry === undefined || xhr.status !== 200) return;
    carried = [...$("form[data-extensions]").elements].filter((control) => changed(control) && !control.name.startsWith("clear.")).map((control) => ({
      name: control.name, value: control.type === "checkbox" ? control.checked : control.value, row: control.closest("[data-n]")?.dataset, end: control.name.split(".")[2],
    }));
  };
  const putBack = () => {
    if (!carried) return;
    const form = $("form[data-extensions]"), rows = new Map(), taken = carried;
    carried = null;
    const rowOf = ({ row }) => {  // properties are found by name: their numbers may have moved
      if (row.property) return $(`[data-property="${CSS.escape(row.property)}"]`, form);
      if (!rows.has(row.n)) rows.set(row.n, add($("[data-add='#property-template']", form)));
      return rows.get(row.n);
    };
    taken.sort((a, b) => a.name.startsWith("component.") - b.name.startsWith("component.") || 0).forEach((item) => {
      const control = item.row ? $(`[name$=".${item.end}"]`, rowOf(item) ?? form) : form.elements[item.name];
      if (!control) return;
      if (control.type === "checkbox") { control.checked = item.value; if (control.dataset.component) inherit(control, false); return; }
      const secret = control.closest("details[data-secret]");
      if (secret) secret.open = true;
      control.value = item.value;
    });
    guard(form);
    toast("The current values are loaded. What you typed is still here, not saved.");
  };

  /* After every swap and once at the start: errors get the focus, filters still hold. */
  const settle = () => {
    all("[data-component]").forEach((box) => inherit(box, false));
    needs();
    putBack();
    mark();
    narrow(false);
    $("[data-focus]")?.focus();
    all("[data-focus]").forEach((element) => element.removeAttribute("data-focus"));
    all("input[data-filter]").forEach((input) => { if (input.value && input.value !== input.defaultValue) filter(input, false); });
    all("form[data-guard]").forEach(guard);
    ticker();
  };
  on("htmx:afterSettle", settle);
  on("htmx:afterSettle", ({ detail }) => { const saved = !isPoll(detail) && $(".saved"); if (saved?.textContent) say(saved.textContent); });
  settle();
  const current = $(".frame-tree .tree-row[aria-current]"), pane = current?.closest(".frame-tree");
  if (pane && current.offsetTop > pane.clientHeight - 80) pane.scrollTop = current.getBoundingClientRect().top - pane.getBoundingClientRect().top - pane.clientHeight / 3;

  /* HX-Trigger: {"toast": "Copied to Production"}; only ever beside a result shown in place. */
  function toast(text) {
    const note = Object.assign(document.createElement("div"), { className: "toast", textContent: text });
    $("#toasts").append(note);
    setTimeout(() => note.remove(), 6000);
  }
  on("toast", ({ detail }) => toast(detail.value ?? detail));
})();
