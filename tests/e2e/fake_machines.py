"""Machines behind the instances of a cloud that a test plays: each is a network namespace with an address, a home and an sshd of
its own, in which a first script runs; `shutdown -P +minutes` there really ends it, and what the script sleeps is counted.

Needs root, iproute2, util-linux and openssh. Of one process; everything is gone after Network.close(), and what a process that was
killed has left goes when the next one begins.
"""

import json
import os
import subprocess
import sys
import time


def sh(script):
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True)


class Network:
    """`prefix`: two letters of the cloud, for what it makes; `octet`: of its addresses, 10.octet.x.x."""

    def __init__(self, folder, build_id, programs, prefix, octet):
        pid = os.getpid()
        self.folder, self.build_id, self.programs = folder, build_id, programs
        self.bridge = f"{prefix}{pid}"
        self.subnet = f"10.{octet}.{1 + pid % 250}"
        self.count = 0
        # What a test that was killed has left.
        sh(f"""for ns in $(ip netns list | grep -o '^{prefix}[0-9]*n[0-9]*'); do
  pid=${{ns#{prefix}}}; pid=${{pid%n*}}
  [ -d /proc/$pid ] || {{ ip netns pids $ns | xargs -r kill -9; ip netns del $ns; ip link del {prefix}$pid; }}
done""")
        made = sh(f"""set -e
for tool in ip unshare ssh-keygen /usr/sbin/sshd; do command -v $tool >/dev/null || {{ echo "needs $tool" >&2; exit 1; }}; done
mkdir -p {folder} /run/sshd; cd {folder}; echo 1 >speed; echo 1 >sleep_speed
ssh-keygen -q -t ed25519 -N '' -f host_key
printf '%s\\n' 'HostKey {folder}/host_key' 'UsePAM no' 'StrictModes no' 'PidFile none' 'PasswordAuthentication no' \\
  'PermitRootLogin yes' 'MaxStartups 100' >sshd_config
ip link add {self.bridge} type bridge; ip addr add {self.subnet}.254/24 dev {self.bridge}; ip link set {self.bridge} up""")
        self.problem = made.stderr.strip().replace("\n", "; ") if made.returncode else ""

    def close(self):
        sh(f"ip link del {self.bridge}")

    def set(self, what, text):
        with open(f"{self.folder}/{what}", "w") as file:
            file.write(text)


class Machine:
    """`script`: its first; the image has the programs of this build. One that is spot has a metadata service, which gives notice."""

    def __init__(self, network, instance, script, spot=False):
        network.count += 1
        self.network = network
        self.name = f"{network.bridge}n{network.count}"
        self.address = f"{network.subnet}.{network.count % 250 + 1}"
        self.folder = f"{network.folder}/{instance}"
        os.makedirs(f"{self.folder}/bin")
        with open(f"{self.folder}/first_script", "w") as file:
            file.write(script)
        # `shutdown -P +120`, the last one counts; `shutdown -c` takes it back.
        with open(f"{self.folder}/bin/shutdown", "w") as file:
            file.write(f"""#!/bin/sh
echo "$@" >>{self.folder}/shutdowns
[ -f {self.folder}/timer ] && kill $(cat {self.folder}/timer) 2>/dev/null
[ "$1" = -c ] && exit
seconds=$(awk "BEGIN {{ print 60 * ${{2#+}} / $(cat {network.folder}/speed) }}")
setsid sh -c "echo \\$\\$ >{self.folder}/timer; /bin/sleep $seconds; touch {self.folder}/off" >/dev/null 2>&1 &
""")
        with open(f"{self.folder}/bin/sleep", "w") as file:
            file.write(f"""#!/bin/sh
echo $1 >>{self.folder}/sleeps
exec /bin/sleep $(awk "BEGIN {{ print $1 / $(cat {network.folder}/sleep_speed) }}")
""")
        # Whoever logs in finds the driver that the test has put into the image, if any.
        os.makedirs(f"{self.folder}/login_bin")
        with open(f"{self.folder}/login_bin/nvidia-smi", "w") as file:
            file.write(f"#!/bin/sh\ncat {network.folder}/driver\n")
        for program in ("bin/shutdown", "bin/sleep", "login_bin/nvidia-smi"):
            os.chmod(f"{self.folder}/{program}", 0o755)
        made = sh(f"""set -e
ip netns add {self.name}; ip link add {self.name} type veth peer name eth0 netns {self.name}
ip link set {self.name} master {network.bridge}; ip link set {self.name} up
ip -n {self.name} addr add {self.address}/24 dev eth0; ip -n {self.name} link set eth0 up; ip -n {self.name} link set lo up
""")
        assert made.returncode == 0, made.stderr
        if spot:
            assert sh(f"ip -n {self.name} addr add 169.254.169.254/32 dev lo").returncode == 0
            service = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_metadata.py")
            self.metadata = subprocess.Popen(
                ["ip", "netns", "exec", self.name, sys.executable, service, f"{self.folder}/notice"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            self.metadata = None
        self.start("first_script")

    def start(self, *scripts):
        """Its scripts run once its own system does; of its disk /var/lib outlives that, homes do not."""
        network = self.network
        os.makedirs(f"{self.folder}/var_lib", exist_ok=True)
        inside = f"""mount -t tmpfs none /root; mount --bind {self.folder}/var_lib /var/lib
mkdir -p /root/.muster/builds/{network.build_id}; ln -s {network.programs} /root/.muster/builds/{network.build_id}/bin
cd {self.folder}; for script in {" ".join(scripts)}; do PATH={self.folder}/bin:$PATH sh $script; done; cd /
exec /usr/sbin/sshd -D -f {network.folder}/sshd_config -o ListenAddress={self.address} -E {self.folder}/sshd.log \\
  -o SetEnv=PATH={self.folder}/login_bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"""
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "-m", "--propagation", "private", "sh", "-c", inside],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def restart(self):
        """As after a panic: what ran is gone, and of its scripts only those run that cloud-init runs at each start."""
        self.process.kill()
        self.process.wait()
        # What is just being started is seen the second time.
        pids = f"ip netns pids {self.name} | xargs -r kill -9"
        sh(f"{pids}; {pids}; rm -f {self.folder}/timer")
        self.start("var_lib/cloud/scripts/per-boot/*")

    def is_off(self):
        """Whether it has turned itself off."""
        return os.path.exists(f"{self.folder}/off")

    def slept(self):
        """The seconds that its first script has slept, by its own count."""
        try:
            with open(f"{self.folder}/sleeps") as file:
                return sum(int(line) for line in file)
        except FileNotFoundError:
            return 0

    def give_notice(self, seconds):
        """That it is taken back so long from now."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        with open(f"{self.folder}/notice.new", "w") as file:
            json.dump({"action": "terminate", "time": at}, file)
        os.rename(f"{self.folder}/notice.new", f"{self.folder}/notice")

    def set_link(self, state):
        """"down": whoever talks to it hears nothing any more, no end either."""
        sh(f"ip link set {self.name} {state}")

    def die(self):
        """Without a word, as hardware does; its instance goes on to exist."""
        sh(f"ip link set {self.name} down; ip netns pids {self.name} | xargs -r kill -9")

    def kill(self):
        # It may not have got as far as its namespace.
        self.process.kill()
        self.process.wait()
        # What is just being started is seen the second time.
        pids = f"ip netns pids {self.name} | xargs -r kill -9"
        sh(f"{pids}; {pids}; ip netns del {self.name}; ip link del {self.name}")
        if self.metadata:
            self.metadata.wait()


class Faults:
    """What is to go wrong: {"action": …, "times": 1, "skip": 0, …}. The caller locks."""

    def __init__(self):
        self.faults = []

    def take(self, action, spot=False):
        for fault in self.faults:
            if fault["action"] != action or (fault.get("spot") and not spot):
                continue
            if fault.get("skip", 0) > 0:
                fault["skip"] -= 1
            elif fault.get("times", 1) > 0:
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return None
