/** The languages that are highlighted: the names that fences use, and highlight.js's name of the grammar. */

const NAMES = {
  bash: "bash sh shell zsh console",
  c: "c h",
  cpp: "cpp c++ cc cxx hpp",
  csharp: "csharp cs c#",
  css: "css",
  dart: "dart",
  diff: "diff patch",
  dockerfile: "dockerfile docker containerfile",
  elixir: "elixir ex exs",
  go: "go golang",
  graphql: "graphql gql",
  haskell: "haskell hs",
  ini: "ini toml conf properties env dotenv",
  java: "java",
  javascript: "javascript js jsx mjs cjs",
  json: "json jsonl json5 jsonc",
  julia: "julia jl",
  kotlin: "kotlin kt kts",
  lua: "lua",
  makefile: "makefile make mk",
  markdown: "markdown md mdx",
  nginx: "nginx",
  perl: "perl pl",
  php: "php",
  powershell: "powershell ps1 pwsh",
  protobuf: "protobuf proto",
  python: "python py python3",
  r: "r",
  ruby: "ruby rb",
  rust: "rust rs",
  scala: "scala",
  scss: "scss sass less",
  sql: "sql postgresql mysql sqlite psql",
  swift: "swift",
  typescript: "typescript ts tsx",
  xml: "xml html svg vue xhtml",
  yaml: "yaml yml",
};

const GRAMMARS = new Map(Object.entries(NAMES).flatMap(([grammar, names]) => names.split(" ").map((name) => [name, grammar])));

/** Returns the name of a language's grammar; undefined if it has none. @param {string} language as named by a fence */
export function grammarOf(language) {
  return GRAMMARS.get(language.toLowerCase());
}

/** Returns whether a language is that of diagrams. */
export function isDiagram(language) {
  return /^(?:mermaid|mmd)$/i.test(language);
}
