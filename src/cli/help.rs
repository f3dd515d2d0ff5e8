//! What stands below the options in `--help`: examples to begin from, and what is not obvious.

pub const QUORATE: &str = "\
Examples:
  quorate dev                      a whole cluster on this machine, kubeconfig included
  quorate status                   masters and nodes
  quorate server --help            how to run several masters

Every option of dev, server and agent can also be given as QUORATE_<OPTION> in the environment
(--peer-listen as QUORATE_PEER_LISTEN), or in a YAML file named by --config (peer-listen: ADDR).
A flag wins over the environment, the environment over the file.";

pub const DEV: &str = "\
Examples:
  quorate dev
  quorate dev --data ./try --listen 127.0.0.1:7443 --peer-listen 127.0.0.1:7444 --context try

Pods run in containerd when its socket is there, else in the built-in runtime, which needs nothing
installed but nft; both need root. Without --cluster-cidr and --service-cidr, ranges are taken that
nothing on this machine uses yet. Starting again on the same --data keeps everything. Ctrl-C stops
the cluster in order (pods keep running), a second Ctrl-C at once.";

pub const SERVER: &str = "\
Examples:
  quorate server                                          the first master of a new cluster
  quorate token create --role server                      on a master: a token for further ones
  quorate server --join https://10.0.0.1:6443 --token T   a further master: learner, then voter
  quorate server --vip 10.0.0.100 ...                     on each master: the leader has that address
  quorate server --config /etc/quorate/server.yaml

Without --data, everything is kept in /var/lib/quorate/server. Later starts need neither --join nor
--token, and may give another --listen or --advertise: the other masters are told.";

pub const AGENT: &str = "\
Examples:
  quorate token create --role agent                            on a master
  quorate agent --server https://10.0.0.1:6443 --token T       on the node
  quorate agent images import busybox.tar                      for a machine without a registry

Without --data, everything is kept in /var/lib/quorate/agent. The agent learns the addresses of all
masters from the first that it reaches. Stopping it leaves its pods running; the next start adopts
them.";

pub const TOKEN: &str = "\
Examples:
  quorate token create --role agent --ttl 1h --uses 3 --description 'the new rack'
  quorate token create --role server --print-join-command
  quorate token list
  quorate token delete abcdef";

pub const KUBECONFIG: &str = "\
Examples:
  quorate kubeconfig > admin.conf                        the administrator, who may do everything
  quorate kubeconfig --server https://lb.example:6443 --kubeconfig ~/.kube/config
  quorate kubeconfig --user jane --group developers      a user with what RBAC gives her

It signs a client certificate, good for a year, with the keys in the master's data directory.

  quorate kubeconfig --proxy --listen 6445 --kubeconfig ~/.kube/config &
  quorate kubeconfig --proxy --listen 6445 --from admin.conf --kubeconfig ~/.kube/config &

forward connections on this machine to a master that is ready, from then on: which masters there are is
asked of them again and again, so all of them may be replaced. The second needs no master on this machine;
--server URL,URL names more masters to begin with. TLS is between kubectl and the master as ever.";

pub const STATUS: &str = "\
Examples:
  quorate status
  quorate status -o json | jq -r .leader
  quorate status --watch                               go on, whichever master is lost
  quorate status --server https://10.0.0.2:6443        ask another master than the kubeconfig names

Each master is asked for itself; one that does not answer is listed with what the others know.
Of -o json these stay: clusterId, leader, term, appliedIndex, masters[] with name, nodeId, role, voter, answers,
apiAddress, peerAddress, term, appliedIndex, trailsBy and version, alarms[] with alarm, master and
advice, virtualAddresses[] and who holds[] them in masters[], and nodes[] with name, status, pods, address, runtime and version. What is not known is null.";

pub const MASTERS: &str = "\
Examples:
  quorate masters list
  quorate masters list -o wide
  quorate masters remove m2            take a master out; asks first, --yes does not
  quorate masters replace m2 m4        take m2 out and let m4 vote in its place, in one step
  quorate masters demote m2            m2 gets the log and does not vote; `promote m2` takes that back
  quorate masters transfer-leader m3   before maintenance of the leader's machine

A master is added by starting it: `quorate server --join URL --token T` on its machine; with --standby it does
not vote until it is promoted, or replaces another. A removed master ends, and its directory is of no use any
more. What would leave the cluster without a quorum is refused, with the reason and what to do instead;
--dry-run says so before anything is changed.";

pub const CERTS: &str = "\
Examples:
  quorate certs list
  quorate certs list -o json | jq '.certificates[] | select(.secondsLeft < 5000000)'
  quorate certs rotate                 new certificates for all masters, now
  quorate certs rotate --master m2     for one, after its machine was restored from a copy
  quorate certs rotate-ca              new authorities, see `quorate certs rotate-ca --help`

Masters issue their own certificates and those of nodes, and make them anew two months before their end, without a
restart; none of this is needed for that. Kubeconfigs are good for a year: `quorate kubeconfig` makes others.";

pub const ROTATE_CA: &str = "\
Examples:
  quorate certs rotate-ca              new authorities are made; once all masters have them, they sign
  quorate certs rotate-ca --dry-run    how far it is, and what would be next
  quorate certs rotate-ca --finish     some days later: the old ones are believed no longer

Three authorities are made anew: the cluster's, that of the masters among themselves, and the front proxy's. Both
generations are believed until --finish, so that kubeconfigs, nodes and tokens of before stay good meanwhile. Each step
is taken only when every master answers and has taken the one before; ended at any point, the command goes on from there
when it is run again. The key of service account tokens stays. docs/runbooks/certificate-rotation.md has all steps.";

pub const PREFLIGHT: &str = "\
Example:
  quorate masters preflight --join https://10.0.0.1:6443 --token T

Give it what `quorate server --join` is to get on this machine. It looks both ways between this machine and each
master, at versions, clocks, the disk's syncs and its free space, and whether name and addresses are free. A join does
the same before it changes anything; --skip-preflight leaves it out.";

pub const RECOVER: &str = "\
Examples:
  quorate masters recover --show               on each survivor's machine: which one has most
  quorate masters recover                      there; asks first, --yes does not

The master must not run. All that is in its log takes effect, also what it did not know to be decided; what
only the lost masters had is lost. The new cluster has another id, so that no master of the old one gets in,
and goes on at a far higher revision, so that every watcher lists again. The old directory is moved aside.
docs/runbooks/quorum-loss.md has all steps.";

pub const BACKUP: &str = "\
Examples:
  quorate backup save                                      from a running master, into this directory
  quorate backup save --passphrase-file F before.backup    with the cluster's keys, sealed
  quorate backup list                                      what the master on this machine made by itself
  quorate backup verify *.backup
  quorate backup restore before.backup --data /var/lib/quorate/server

Each master makes a backup at 00:00 and at 12:00 UTC and keeps five (--backup-schedule, --backup-keep,
--backup-dir and --no-backups of `quorate server`). A backup has all objects, Secrets too, and no keys unless
they are sealed into it: keep a copy of pki in a master's data directory in another place, or a passphrase.
docs/runbooks/backup-and-restore.md has all steps.";

pub const COMPLETION: &str = "\
Examples:
  source <(quorate completion bash)
  quorate completion zsh > \"${fpath[1]}/_quorate\"
  quorate completion fish > ~/.config/fish/completions/quorate.fish";
