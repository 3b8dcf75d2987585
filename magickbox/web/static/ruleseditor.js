// The editor of the rules in place of the text field, which stays what the form sends; problems are shown as one types.

import {
  EditorState, EditorView, bracketMatching, closeBrackets, closeBracketsKeymap, completionKeymap, defaultKeymap,
  drawSelection, highlightActiveLine, highlightActiveLineGutter, highlightSelectionMatches, highlightSpecialChars,
  history, historyKeymap, indentUnit, keymap, lineNumbers, lintGutter, lintKeymap, linter, search, searchKeymap,
} from "./vendor/codemirror.js";
import { ruleLanguage } from "./rulelanguage.js";

const PAUSE = 350; // ms without a key until the box is asked

const look = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--card)", fontSize: "13.5px", height: "100%" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5", overflow: "auto" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  "&.cm-focused": { outline: "2px solid var(--focus)", outlineOffset: "-2px" },
  ".cm-gutters": { backgroundColor: "var(--ground)", color: "var(--muted)", borderRight: "1px solid var(--line)" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--accent) 8%, transparent)" },
  ".cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": {
    backgroundColor: "color-mix(in srgb, var(--accent) 28%, transparent)",
  },
  ".cm-selectionMatch, .cm-searchMatch": { backgroundColor: "color-mix(in srgb, var(--held) 25%, transparent)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "color-mix(in srgb, var(--accent) 25%, transparent)" },
  ".cm-panels": { backgroundColor: "var(--ground)", color: "var(--ink)", borderColor: "var(--line)" },
  ".cm-textfield, .cm-button": { background: "var(--card)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "5px", fontSize: "13px" },
  ".cm-tooltip": { backgroundColor: "var(--card)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "6px", maxWidth: "min(34rem, 85vw)" },
  ".cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--accent-ink)" },
  ".cm-completionDetail": { fontStyle: "normal", opacity: ".75", fontFamily: "system-ui, sans-serif", fontSize: "12px" },
  ".cm-completionInfo": { padding: ".5rem .7rem", fontSize: "13px" },
  ".cm-diagnostic": { padding: ".4rem .7rem", fontSize: "13px", fontFamily: "system-ui, sans-serif" },
  ".cm-diagnostic-error": { borderLeft: "4px solid var(--bad)" },
  ".about": { padding: ".5rem .7rem", fontSize: "13px", fontFamily: "system-ui, sans-serif" },
  ".about p": { margin: ".2rem 0" },
  ".about code": { fontFamily: "var(--mono)", fontSize: "12px", color: "var(--muted)", overflowWrap: "anywhere" },
});

// Puts an editor before a text field. `check(text)` asks the box and gives [{ line, column, said, warning }];
// `told(findings)` is called with each answer.
export function mount(field, schema, check, told) {
  const place = document.createElement("div");
  place.className = "editor";
  field.before(place);
  field.hidden = true;
  const shadow = place.attachShadow({ mode: "open" }); // where styles are sheets of their own: none in the page's head
  const source = async (view) => {
    const text = view.state.doc.toString();
    try {
      const found = await check(text);
      told(found, null);
      return found.filter((each) => each.line).map((each) => diagnostic(view.state.doc, each));
    } catch (error) {
      told([], error);
      return [];
    }
  };
  const view = new EditorView({
    parent: shadow, root: shadow,
    state: EditorState.create({
      doc: field.value,
      extensions: [
        lineNumbers(), highlightActiveLineGutter(), highlightActiveLine(), highlightSpecialChars(), history(),
        drawSelection(), bracketMatching(), closeBrackets(), highlightSelectionMatches(), search({ top: true }),
        indentUnit.of("  "), lintGutter(), linter(source, { delay: PAUSE }), ruleLanguage(schema), look,
        EditorView.darkTheme.of(matchMedia("(prefers-color-scheme: dark)").matches), EditorView.lineWrapping,
        EditorView.contentAttributes.of({ tabindex: "0", "aria-label": field.getAttribute("aria-label") ?? "Rules" }),
        EditorState.readOnly.of(field.readOnly),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          field.value = update.state.doc.toString();
          field.dispatchEvent(new Event("input", { bubbles: true }));
        }),
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap]),
      ],
    }),
  });
  return view;
}

export function goTo(view, line, column) {
  const position = place(view.state.doc, line, column);
  view.dispatch({ selection: { anchor: position }, scrollIntoView: true });
  view.focus();
}

// The box counts characters as Python does, the editor in UTF-16.
function place(doc, line, column) {
  const there = doc.line(Math.min(Math.max(line, 1), doc.lines));
  return there.from + [...there.text].slice(0, column - 1).join("").length;
}

function diagnostic(doc, found) {
  const from = place(doc, found.line, found.column);
  const length = doc.sliceString(from, from + 300).match(/^(?:"(?:[^"\\\n]|\\.)*"|[\w.+-]+|\S)/)?.[0].length ?? 0;
  return { from, to: from + length, severity: found.warning ? "warning" : "error", message: found.said };
}
