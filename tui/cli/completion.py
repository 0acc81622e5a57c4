"""Shell completion for bash, zsh and fish: scripts, and the program's answers to them. Command `completion`."""

import os
import re
from collections.abc import Iterable
from itertools import dropwhile

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

from tui.cli.options import COMPLETE
from tui.cli.output import say

_BASH = r"""
%(complete_func)s() {
    local kind word _
    COMPREPLY=()
    while IFS=$'\t' read -r kind word _; do
        case $kind in
            plain) COMPREPLY+=("$word") ;;
            open) COMPREPLY+=("$word"); compopt -o nospace ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(COMP_LINE=${COMP_LINE:0:COMP_POINT} COMP_WORD=$2 %(complete_var)s=bash_complete \
        "${1/#\~\//$HOME/}" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = r"""
#compdef %(prog_name)s

%(complete_func)s() {
    local line
    local -a part open described
    for line in ${(f)"$(COMP_LINE="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" \
            %(complete_var)s=zsh_complete ${(Q)~words[1]} 2>/dev/null)"}; do
        part=("${(@ps:\t:)line}")
        case $part[1] in
            plain) described+=("${part[2]//:/\\:}${part[3]:+:$part[3]}") ;;
            open) open+=("$part[2]") ;;
            file) compset -P "${(b)part[2]}"; _files ;;
            dir) compset -P "${(b)part[2]}"; _files -/ ;;
        esac
    done
    (( $#described )) && _describe -V value described
    (( $#open )) && compadd -S '' -V key -a open
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = r"""
function %(complete_func)s
    set -l program (commandline -opc)[1]
    for line in (env COMP_LINE=(commandline -cp | string collect) %(complete_var)s=fish_complete $program 2>/dev/null)
        set -l part (string split -m 2 \t -- $line)
        switch $part[1]
            case file
                printf "$part[2]%%s\n" (__fish_complete_path $part[3])
            case dir
                printf "$part[2]%%s\n" (__fish_complete_directories $part[3])
            case '*'
                printf '%%s\t%%s\n' $part[2] $part[3]
        end
    end
end

complete --command %(prog_name)s --no-files --keep-order --arguments '(%(complete_func)s)'
"""


class _Shell(ShellComplete):
    """A shell that hands over its line up to the cursor, and reads lines of kind, word and help.

    click's own scripts hand over words, which bash has cut at every "=" and ":".
    """

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ.get("COMP_LINE", "") + "x")  # the x: the last word may be empty
        called = list(dropwhile(re.compile(r"\w+=").match, words))
        return called[1:-1], words[-1][:-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        option = re.match("--[a-z-]+=", incomplete)
        before = option[0] if option and "--" not in args else ""
        found = super().get_completions(args, incomplete)
        return [self._whole(item, before, incomplete) for item in found]

    def _whole(self, item: CompletionItem, before: str, incomplete: str) -> CompletionItem:
        """Return an item as the shell wants it: what takes the place of the word, or what stands before a file."""
        if item.type in {"file", "dir"}:
            return CompletionItem(before + (item.before or ""), item.type, item.value)
        kind = "open" if item.value.endswith("=") else "plain"
        return CompletionItem(before + item.value, kind, item.help)

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type}\t{item.value}\t{' '.join((item.help or '').split())}"


class _Bash(_Shell):
    name = "bash"
    source_template = _BASH.lstrip()

    def _whole(self, item: CompletionItem, before: str, incomplete: str) -> CompletionItem:
        """Leave out what bash takes for an earlier word: it hands over what it takes for this one."""
        item = super()._whole(item, before, incomplete)
        own = split_arg_string(os.environ.get("COMP_WORD", "") + "x")[-1][:-1]
        return CompletionItem(item.value.removeprefix(incomplete.removesuffix(own)), item.type, item.help)


class _Zsh(_Shell):
    name = "zsh"
    source_template = _ZSH.lstrip()


class _Fish(_Shell):
    name = "fish"
    source_template = _FISH.lstrip()


_SHELLS: Iterable[type[_Shell]] = (_Bash, _Zsh, _Fish)
for _each in _SHELLS:
    add_completion_class(_each)


@click.command()
@click.argument("shell", type=click.Choice([each.name for each in _SHELLS]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print the script that lets SHELL complete commands, options, presets, runs and settings.

    \b
    bash  cifartui completion bash > ~/.local/share/bash-completion/completions/cifartui
    zsh   cifartui completion zsh > FOLDER/_cifartui, a folder of $fpath
    fish  cifartui completion fish > ~/.config/fish/completions/cifartui.fish
    """
    chosen = next(each for each in _SHELLS if each.name == shell)
    root = ctx.find_root()
    say(chosen(root.command, {}, "cifartui", COMPLETE).source().rstrip())
