# SPDX-License-Identifier: MIT
# bash completion for megalithctl. Names come from the controller that the command line is about.

_megalithctl_names() {
	local i words=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--run-dir | --control)
			# bash splits --run-dir=DIR into three words
			if [[ ${COMP_WORDS[i + 1]} == = ]]; then
				words+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 2]}")
			else
				words+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}")
			fi
			;;
		esac
	done
	"${COMP_WORDS[0]}" "${words[@]}" names "$1" 2>/dev/null
}

# The command on the line, and how many arguments stand behind it.
_megalithctl_line() {
	local i word

	command='' arguments=0
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--run-dir | --control | --bpf-dir | --node | --persona | --client)
			((i++))
			[[ ${COMP_WORDS[i]} == = ]] && ((i++))
			;;
		-* | =) ;;
		*)
			if [[ -n $command ]]; then
				((arguments++))
			else
				command=$word
			fi
			;;
		esac
	done
}

_megalithctl_options() {
	case $1 in
	flows) echo --node --persona --json ;;
	drain) echo --wait --json ;;
	explain) echo --client --json ;;
	detach) echo --bpf-dir ;;
	*) echo --json ;;
	esac
	echo --run-dir --control --help
}

_megalithctl() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local command arguments choices=''

	[[ $previous == = ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}
	[[ $current == = ]] && current=''
	COMPREPLY=()
	case $previous in
	--run-dir | --bpf-dir)
		mapfile -t COMPREPLY < <(compgen -d -- "$current")
		return
		;;
	--control)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
		;;
	--node) choices=$(_megalithctl_names nodes) ;;
	--persona) choices=$(_megalithctl_names personas) ;;
	--client) return ;;
	*)
		_megalithctl_line
		if [[ $current == -* ]]; then
			choices=$(_megalithctl_options "$command")
		elif [[ -z $command || $command == help ]]; then
			choices='status personas nodes flows weight drain undrain explain reload check detach help'
		elif ((arguments == 0)); then
			case $command in
			weight | drain | undrain) choices=$(_megalithctl_names nodes) ;;
			explain) choices=$(_megalithctl_names personas) ;;
			check)
				mapfile -t COMPREPLY < <(compgen -f -- "$current")
				return
				;;
			esac
		elif [[ $command == weight ]] && ((arguments == 1)); then
			choices='0 50 100 200 500 1000'
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}

complete -F _megalithctl megalithctl
