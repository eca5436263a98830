/**
 * The command `meshca completion`: what a shell completes after `meshca`, made from the tree of
 * commands.
 * @module
 */
import type { Command, Entry, Group } from "../command.ts";
import { isGroup } from "../command.ts";
import { flagsOf } from "../command-flags.ts";
import type { Flag } from "../flags.ts";
import { usage } from "../output.ts";

/** The words that can follow a path of words. */
interface Node {
  /** The words after `meshca`, with blanks between them. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly summary: string }[];
  readonly flags: readonly Flag[];
  /** Whether files are completed. */
  readonly files: boolean;
  /** The words that an argument can be, if it is one of a few. */
  readonly choices: readonly string[];
}

export const SHELLS = ["bash", "zsh", "fish"] as const;

/** The completion script of a shell. */
export function completionScript(shell: (typeof SHELLS)[number], program: Group): string {
  const nodes = nodesOf(program, "");
  if (shell === "bash") return bash(nodes);
  return shell === "zsh" ? zsh(nodes) : fish(nodes);
}

function nodesOf(entry: Entry, path: string): readonly Node[] {
  if (!isGroup(entry)) {
    const flags = [
      ...flagsOf(entry).filter(({ hidden }) => hidden !== true),
      { name: "help", value: null, help: "show the help" },
    ];
    const { files = false, choices = [] } = entry;
    return [{ path, commands: [], flags, files, choices }];
  }
  const commands = entry.commands
    .filter((child) => isGroup(child) || child.hidden !== true)
    .map(({ name, summary }) => ({ name, summary }));
  return [
    { path, commands, flags: [], files: false, choices: [] },
    ...entry.commands.flatMap((child) => nodesOf(child, `${path} ${child.name}`.trim())),
  ];
}

/** A case of a shell for each path: the words, the flags that take a value, and files. */
function bash(nodes: readonly Node[]): string {
  const words = nodes.map(
    (node) =>
      `    "${node.path}") words="${wordsOf(node).join(" ")}"; files=${node.files ? 1 : 0} ;;`,
  );
  return `# Completion of meshca for bash: source <(meshca completion bash)
# Names of files are left to readline, which quotes them.
_meshca_files() { COMPREPLY=(); compopt -o default 2>/dev/null; }
_meshca() {
  local path="" words="" files=0 word i
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  # The words before the cursor that are commands.
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    case " ${paths(nodes).join(" ")} " in
      *" \${path:+\${path// //}/}$word "*) path="\${path:+$path }$word" ;;
    esac
  done
  # bash takes "=" for a word of its own.
  if [ "$current" = "=" ]; then current=""; elif [ "$previous" = "=" ]; then previous="\${COMP_WORDS[COMP_CWORD-2]}"; fi
  case "$path \${previous#-}" in
${valueCases(nodes, (choices) => `COMPREPLY=($(compgen -W "${choices.join(" ")}" -- "$current")); return`, "_meshca_files; return", "COMPREPLY=(); return")}
  esac
  case "$path" in
${words.join("\n")}
  esac
  # Flags in Go's form, too.
  if [[ "$current" == -* && "$current" != --* ]]; then words="\${words//--/-}"; fi
  if [[ "$files" = 1 && "$current" != -* ]]; then _meshca_files; return; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _meshca meshca
`;
}

const wordsOf = ({ commands, choices, flags }: Node): readonly string[] => [
  ...commands.map(({ name }) => name),
  ...choices,
  ...flags.map(({ name }) => `--${name}`),
];

const paths = (nodes: readonly Node[]): readonly string[] =>
  nodes.filter(({ path }) => path !== "").map(({ path }) => path.replaceAll(" ", "/"));

/** What follows a flag with a value, as cases of bash; the dash of Go's form was cut off. */
function valueCases(
  nodes: readonly Node[],
  choose: (choices: readonly string[]) => string,
  file: string,
  other: string,
): string {
  return nodes
    .flatMap(({ path, flags }) =>
      flags
        .filter(({ value }) => value !== null)
        .map(({ name, choices, file: isFile }) => {
          const act = choices !== undefined ? choose(choices) : isFile === true ? file : other;
          return `    "${path} ${name}" | "${path} -${name}") ${act} ;;`;
        }),
    )
    .join("\n");
}

const quoteZsh = (text: string): string =>
  text.replaceAll(/['[\]:\\]/g, (char) => (char === "'" ? "'\\''" : `\\${char}`));

function zsh(nodes: readonly Node[]): string {
  const cases = nodes.map(({ path, commands, flags, files, choices }) => {
    if (commands.length > 0) {
      const list = commands.map(({ name, summary }) => `'${name}:${quoteZsh(summary)}'`).join(" ");
      return `    "${path}") local -a words=(${list}); _describe command words ;;`;
    }
    const specs = flags.map(({ name, value, help, many, choices, file }) => {
      const action =
        value === null
          ? ""
          : `:${quoteZsh(value)}:${choices !== undefined ? `(${choices.join(" ")})` : file === true ? "_files" : " "}`;
      // In the form of GNU and in Go's, of which one excludes the other unless it is repeatable.
      const first = many === true ? "'*'" : `'(-${name} --${name})'`;
      const equals = value === null ? "" : "=";
      return `${first}{--${name}${equals},-${name}${equals}}'[${quoteZsh(help)}]${action}'`;
    });
    const rest = files
      ? ["'*:file:_files'"]
      : choices.length > 0
        ? [`'1:word:(${choices.join(" ")})'`]
        : [];
    return `    "${path}") _arguments ${[...specs, ...rest].join(" ")} ;;`;
  });
  return `#compdef meshca
# Completion of meshca for zsh: source <(meshca completion zsh)
_meshca() {
  # "path" is the parameter of the shell's own search.
  local at="" word
  integer i depth=0
  for ((i = 2; i < CURRENT; i++)); do
    word="\${words[i]}"
    case " ${paths(nodes).join(" ")} " in
      *" \${at:+\${at// //}/}$word "*) at="\${at:+$at }$word"; depth=i-1 ;;
    esac
  done
  # The words of the command are not arguments of its own.
  shift $depth words
  (( CURRENT -= depth ))
  case "$at" in
${cases.join("\n")}
  esac
}
compdef _meshca meshca
`;
}

const quoteFish = (text: string): string => `'${text.replaceAll(/['\\]/g, (char) => `\\${char}`)}'`;

function fish(nodes: readonly Node[]): string {
  const lines = nodes.flatMap(({ path, commands, flags, files, choices }) => {
    const when = `-n ${quoteFish(`__meshca_at ${path}`.trim())}`;
    return [
      ...commands.map(
        ({ name, summary }) => `complete -c meshca ${when} -f -a ${name} -d ${quoteFish(summary)}`,
      ),
      ...flags.map(({ name, value, help, choices, file }) => {
        const argument =
          value === null
            ? ""
            : ` -r${choices !== undefined ? ` -f -a ${quoteFish(choices.join(" "))}` : file === true ? " -F" : " -f"}`;
        return `complete -c meshca ${when} -l ${name} -o ${name}${argument} -d ${quoteFish(help)}`;
      }),
      ...choices.map((word) => `complete -c meshca ${when} -f -a ${word}`),
      ...(files ? [`complete -c meshca ${when} -F`] : []),
    ];
  });
  return `# Completion of meshca for fish: meshca completion fish | source
function __meshca_at
    set -l path
    for word in (commandline -opc)[2..-1]
        if contains -- (string join -- / $path $word) ${paths(nodes).join(" ")}
            set -a path $word
        end
    end
    test "$path" = "$argv"
end
complete -c meshca -f
${lines.join("\n")}
`;
}

export const completion: Command = {
  name: "completion",
  summary: "print the completion of a shell",
  details:
    "bash: source <(meshca completion bash). zsh: source <(meshca completion zsh). fish: meshca completion fish | source.",
  arguments: "<shell>",
  choices: SHELLS,
  example: "source <(meshca completion bash)",
  async run({ args, program, terminal }) {
    const shell = SHELLS.find((name) => name === args[0]);
    if (shell === undefined)
      throw usage(
        `${JSON.stringify(args[0])} is not a shell of meshca completion: bash, zsh or fish`,
      );
    terminal.write(completionScript(shell, program));
    return 0;
  },
};
