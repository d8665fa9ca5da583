# The body of every batch script; the lines before it set folder, start, scratch, job and prepare.
#
# It starts Ray on all nodes of the job and runs the command on the first. Files in the job's folder:
#     slurm_ids    ids of the job, newest last: where SLURM does not requeue it, it is submitted again
#     cancel.json  written by a client to stop the job
#     ray.log      output of Ray
#     token        of this Ray, while it runs
#     ended.json   written last, as by the supervisor of the local back-end; without it, SLURM knows the state

ray_start_s=600  # for Ray to start on every node
cancelled= taken= near_end= kill_at= command= steps=()
session=$scratch/r$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}  # short: Unix sockets have paths of 107 bytes at most

say() { echo "pinnsweep: $*"; }

is_cancelled() {
    ls "$folder" >/dev/null  # makes NFS refresh the folder
    [[ -e $folder/cancel.json ]]
}

ask_to_stop() { [[ ! $command ]] || kill -TERM "$command" 2>/dev/null; }

on_limit() {
    near_end=1
    ask_to_stop
}

on_term() {
    if is_cancelled; then
        cancelled=1
        kill_at=$((SECONDS + $(sed 's/[^0-9]*\([0-9]*\).*/\1/' "$folder/cancel.json")))
    else
        taken=1  # SLURM takes the nodes: preemption, or cancelled by other means
    fi
    ask_to_stop
}

clean_up() {
    trap '' USR1 TERM
    if (( ${#steps[@]} )); then
        kill "${steps[@]}" 2>/dev/null  # SLURM ends all processes of a step whose srun ends
        wait "${steps[@]}" 2>/dev/null
        [[ $taken ]] || timeout 60 "${srun[@]}" --nodes="$nodes" --ntasks="$nodes" rm -rf "$session" >>ray.log 2>&1
    fi
    rm -rf "$session" "$RAY_AUTH_TOKEN_PATH"
}

end() {  # end CODE [STATE]; without a state, SLURM reports what became of the job
    clean_up
    if [[ ${2:-} ]]; then
        printf '{"exit_code": %d, "state": "%s", "ended_at": %d}\n' "$1" "$2" "$(date +%s)" >.ended.json
        mv .ended.json ended.json
    fi
    exit "$1"
}

stop_early() {  # on a signal before the command was started
    [[ ! $cancelled ]] || end 143 cancelled
    [[ ! $taken ]] || end 143
    say "the time limit was near before Ray had started; give the profile a longer time_limit_min"
    end 143 timed_out
}

free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)) && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

start_ray() {  # start_ray OPTION...: on a node, in a step of its own, until it is killed
    prepare || exit
    mkdir -p -m 700 "$session" && [[ -O $session ]] || exit
    # Ray's default port for its clients, 10001, may be in use by another job; without gRPC it has no clients.
    if [[ $1 == --head ]] && "$(dirname "$(type -P ray)")/python" -c "import grpc" 2>/dev/null; then
        set -- "$@" --ray-client-server-port="$(free_port)"
    fi
    exec ray start --block --num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
        --min-worker-port=0 --max-worker-port=0 "$@"
}

await() {  # await NUMBER: wait until this many nodes have joined
    until (( $(grep -c "Ray runtime started" ray.log) >= $1 )) && [[ -s $address_file ]]; do
        sleep 0.2 &
        wait $!
        [[ ! $cancelled$taken$near_end ]] || stop_early
        if ! kill -0 "${steps[@]: -1}" 2>/dev/null || (( SECONDS > ray_start_s )); then
            say "Ray did not start on all $nodes nodes; ray.log in $folder ends with"
            tail -n 20 ray.log
            end 1 failed
        fi
    done
}

if [[ ${1:-} == start_ray ]]; then  # this is one of the steps below
    "$@"
fi
trap on_limit USR1
trap on_term TERM
cd "$folder" || exit
[[ $(tail -n 1 slurm_ids 2>/dev/null) == "$SLURM_JOB_ID" ]] || echo "$SLURM_JOB_ID" >>slurm_ids
rm -f ended.json token
unset RAY_ADDRESS RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token RAY_USAGE_STATS_ENABLED=0
! is_cancelled || end 143 cancelled
if ! prepare; then
    say "a line of the profile's setup failed"
    end 1 failed
fi

(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >token)
: >ray.log
nodes=$SLURM_JOB_NUM_NODES
address_file=$session/t/ray_current_cluster  # Ray makes its own folder readable to all, so it lies in a private one
srun=(srun --overlap --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=1)
"${srun[@]}" --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" bash job.sh start_ray \
    --head --port=0 --include-dashboard=false --temp-dir="$session/t" </dev/null >>ray.log 2>&1 &
steps+=($!)
await 1
RAY_ADDRESS=$(<"$address_file")
if (( nodes > 1 )); then
    "${srun[@]}" --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$SLURMD_NODENAME" \
        bash job.sh start_ray --address="$RAY_ADDRESS" </dev/null >>ray.log 2>&1 &
    steps+=($!)
    await "$nodes"
fi

export RAY_ADDRESS
(cd "$start" && exec setsid "${job[@]}") </dev/null &
command=$!
[[ ! $cancelled$taken$near_end ]] || ask_to_stop
while kill -0 "$command" 2>/dev/null; do
    if [[ $kill_at ]]; then
        (( SECONDS < kill_at )) || kill -KILL -- "-$command"
        sleep 0.2 &
        wait $!
    else
        wait "$command"  # or until a signal was handled
    fi
done
wait "$command"
code=$?
if (( code == 0 )); then
    end 0 done
elif [[ $cancelled ]]; then
    end "$code" cancelled
elif [[ $taken ]]; then
    end "$code"
elif [[ ! $near_end ]] || (( code != 130 && code != 143 )); then
    end "$code" failed
elif (( code == 143 )); then
    end 143 timed_out
fi

clean_up  # 130: the command has saved its work and can resume
! is_cancelled || end 130 cancelled
say "the time limit is near: the work is saved and resumes when SLURM starts the job again"
scontrol requeue "$SLURM_JOB_ID" && exit 0
next=$(sbatch --parsable job.sh) && echo "${next%%;*}" >>slurm_ids && exit 0
say "SLURM did not requeue the job: submit it yourself to resume"
end 130 timed_out
