#!/bin/bash
# Usage: bound.sh enter|counts|leave
#
# systemd sets the limits of fastapi.slice, where the host has the controllers of cgroup v2. In a container on
# a machine of cgroup v1 it has not. There "enter" sets the very same limits through v1, for the processes that
# fastapi.service has now, so that the kernel does with them what it does elsewhere; "leave" undoes that.
# Both print who sets the limits: systemd, the test, or nobody. "counts" prints how often the kernel has killed
# for memory, held back for CPU time, and refused a process or thread.
set -euo pipefail

slice=/sys/fs/cgroup/fastapi.slice
v1=/run/cgroup-v1
group=limits-$(</etc/machine-id) # the hierarchy is the machine's

value() { systemctl show --property="$1" --value fastapi.slice; }

if grep --quiet memory "$slice/cgroup.controllers"; then
  case $1 in
    counts)
      awk '$1 == "oom_kill" { print $2 }' "$slice/memory.events"
      awk '$1 == "nr_throttled" { print $2 }' "$slice/cpu.stat"
      awk '$1 == "max" { print $2 }' "$slice/pids.events"
      ;;
    *) echo systemd ;;
  esac
  exit
fi

case $1 in
  enter)
    for controller in memory cpu pids; do
      mkdir --parents "$v1/$controller"
      if ! mount -t cgroup -o "$controller" cgroup "$v1/$controller" 2>/dev/null; then
        echo nobody
        exit
      fi
      mkdir --parents "$v1/$controller/$group"
    done
    value MemoryMax >"$v1/memory/$group/memory.limit_in_bytes"
    quota=$(value CPUQuotaPerSecUSec) # such as 500ms; v1 counts microseconds in each 100 ms
    echo $((${quota%ms} * 100)) >"$v1/cpu/$group/cpu.cfs_quota_us"
    # A group has the share of one process, too little on a busy machine to come up to a quota.
    echo 65536 >"$v1/cpu/$group/cpu.shares"
    value TasksMax >"$v1/pids/$group/pids.max"
    for controller in memory cpu pids; do
      for process in $(<"$slice/fastapi.service/cgroup.procs"); do
        echo "$process" >"$v1/$controller/$group/cgroup.procs"
      done
    done
    echo test
    ;;
  counts)
    awk '$1 == "oom_kill" { print $2 }' "$v1/memory/$group/memory.oom_control"
    awk '$1 == "nr_throttled" { print $2 }' "$v1/cpu/$group/cpu.stat"
    awk '$1 == "max" { print $2 }' "$v1/pids/$group/pids.events"
    ;;
  leave)
    for controller in memory cpu pids; do
      mountpoint --quiet "$v1/$controller" || continue
      for process in $(<"$v1/$controller/$group/cgroup.procs"); do
        echo "$process" >"$v1/$controller/cgroup.procs" 2>/dev/null || true # it may have ended
      done
      rmdir "$v1/$controller/$group"
      umount "$v1/$controller"
    done
    echo test
    ;;
esac
