"""What runs behind a pod: a process tree with its own network, address, process ids and home folder.

The file system is the machine's, but for the home, an empty tmpfs. Needs root, iproute2, unshare
and nsenter.
"""

import os
import signal
import subprocess
import time

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def sh(script):
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{script}: {done.stderr}")
    return done.stdout


class Network:
    """One bridge for all pods; addresses 10.79.SUBNET.1 to .253."""

    def __init__(self, name, subnet):
        self.name = name
        self._subnet = subnet
        self._used = set()
        sh(
            f"ip link add {name} type bridge; ip addr add 10.79.{subnet}.254/24 dev {name};"
            f"ip link set {name} up"
        )

    def take(self):
        number = next(n for n in range(1, 254) if n not in self._used)
        self._used.add(number)
        return number

    def give(self, number):
        self._used.discard(number)

    def address(self, number):
        return f"10.79.{self._subnet}.{number}"

    def remove(self):
        subprocess.run(["ip", "link", "del", self.name], capture_output=True)


class Container:
    """The one container of a pod, from its start to its end."""

    def __init__(self, network, hostname, home, command, environment):
        self._network = network
        self._number = network.take()
        self.address = network.address(self._number)
        self._namespace = f"{network.name}p{self._number}"
        self._environment = {"PATH": PATH, "HOME": home, "HOSTNAME": hostname, **environment}
        self._killed_at = None
        ns = self._namespace
        sh(
            f"ip netns add {ns}; ip link add {ns} type veth peer name eth0 netns {ns};"
            f"ip link set {ns} master {network.name}; ip link set {ns} up;"
            f"ip -n {ns} addr add {self.address}/24 dev eth0;"
            f"ip -n {ns} link set eth0 up; ip -n {ns} link set lo up"
        )
        # As in a cluster the command is process 1, which no signal without a handler ends.
        prepare = 'mount -t tmpfs none "$HOME" && hostname "$HOSTNAME" && cd / && exec "$@"'
        self._outer = subprocess.Popen(
            ["ip", "netns", "exec", ns, "unshare", "--uts", "--mount", "--pid", "--fork"]
            + ["--kill-child", "--mount-proc", "--propagation", "private"]
            + ["sh", "-c", prepare, "sh", *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _init(self):
        """Process 1 as this machine numbers it; None when it is not there."""
        outer = self._outer.pid
        try:
            with open(f"/proc/{outer}/task/{outer}/children") as children:
                return int(children.read().split()[0])
        except (OSError, IndexError):
            return None

    def exec_argv(self, command):
        """Words that run `command` in it, or None when it does not run."""
        init = self._init()
        if init is None:
            return None
        return ["nsenter", "-t", str(init), "-n", "-m", "-p", "-u", "--", *command]

    @property
    def environment(self):
        return self._environment

    def terminate(self, grace_s):
        if self._killed_at is not None:
            return
        self._killed_at = time.monotonic() + grace_s
        init = self._init()
        if init is not None:
            os.kill(init, signal.SIGTERM)

    def poll(self):
        """The exit code once it has ended; None before."""
        code = self._outer.poll()
        if code is None and self._killed_at is not None and time.monotonic() > self._killed_at:
            self._outer.kill()  # --kill-child: process 1 goes with it, and everything with that
        if code is None:
            return None
        return code if code >= 0 else 128 - code

    def remove(self):
        """After its end, or at the end of all."""
        self._outer.kill()
        self._outer.wait()
        ns = self._namespace
        script = (
            f"ip netns pids {ns} | xargs -r kill -9; ip netns del {ns}; ip link del {ns}; true"
        )
        subprocess.run(["sh", "-c", script], capture_output=True)
        self._network.give(self._number)
