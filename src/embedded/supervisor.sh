# Runs "$@" (the Postgres server) for as long as standard input stays open, and no longer. POSIX sh: dash, and bash 3.2
# on macOS. Started in a process group of its own, so that "kill ... 0" reaches this group: never a pid that may by now
# belong to somebody else, and never the service. Standard output is the lock (see lock in embedded.rs), which every
# process here inherits; standard error is the server's log.

# Only the server, which sets handlers of its own, is to act on these. TERM and HUP because a service manager may send
# them to all processes at once: this script has to outlive the server.
trap '' INT QUIT TERM HUP
exec 3<&0 </dev/null

"$@" 3<&- &
server=$!

# A line or the end of input, which the kernel delivers however the service ended, means: stop. INT is a fast shutdown;
# repeated because it is lost on a server that has not set its handlers yet. QUIT is an immediate shutdown, from which
# the next start recovers. Without the lock: should this script be killed too, the lock is to end with the server.
{
    read -r _ <&3
    seconds=0
    while [ "$seconds" -lt 10 ]; do
        kill -INT 0
        sleep 1
        seconds=$((seconds + 1))
    done
    kill -QUIT 0
    sleep 10
    kill -KILL 0
} >/dev/null 2>&1 &

wait "$server"
# The server is gone: end the watcher, its sleep, and this script.
kill -KILL 0
