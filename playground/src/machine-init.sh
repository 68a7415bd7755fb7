# The first process of a machine: gives it a file system view of its own, then becomes its init.
# Arguments: directory of the machine, its name, the init program, where the certificate directories are.
set -eu
dir=$1 name=$2 init=$3

# /proc is still the host's: this is the number by which the host knows this process.
read -r pid _ < /proc/self/stat
hostname "$name"

# The control groups stay the host's: keep them while /sys becomes this machine's (its network interfaces are there).
mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount --rbind "$dir/cgroup" /sys/fs/cgroup
umount --recursive --lazy "$dir/cgroup"

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/containerd /run/lock /run/tunables
mount --bind "$dir/cni" /etc/cni/net.d
mount --bind "$dir/cni-programs" /opt/cni/bin
mount --bind "$dir/kubelet" /var/lib/kubelet
mount --bind "$dir/log" /var/log

# kubelet sets these for the whole kernel. It finds here what it wants, and the host keeps its own values.
tunable() {
  [ -e "/proc/sys/$1" ] || return 0
  file=/run/tunables/$(echo "$1" | tr / .)
  echo "$2" > "$file"
  mount --bind "$file" "/proc/sys/$1"
}
tunable vm/overcommit_memory 1
tunable vm/panic_on_oom 0
tunable kernel/panic 10
tunable kernel/panic_on_oops 1
tunable kernel/keys/root_maxkeys 1000000
tunable kernel/keys/root_maxbytes 25000000
echo 1 > /proc/sys/net/ipv4/ip_forward

# Mounts that pods make must reach the node, and the node's must reach pods.
mount --make-rshared /

echo "$pid" > "$dir/init.new"
mv "$dir/init.new" "$dir/init"
exec "$init"
