//! Longer texts of the help.

pub(super) const SHOW_EXAMPLES: &str = "\
Examples:
  altitude show map-cache
  altitude show counters --all
  altitude show counters --json | jq .control
  altitude show locators --watch
  altitude show registrations
  altitude show registrations --json | jq -e 'all(.registrations[]; .standing == \"registered\")'
  altitude show bgp --neighbor 10.42.0.1
  altitude show bgp routes 1.1.0.0/16
  altitude show bgp routes --json | jq '.routes[] | select(.best)'
  altitude show alt --api /run/altitude/second.sock";

pub(super) const LIG_EXAMPLES: &str = "\
The exit code is 0 if every EID was answered, 1 if not.

Examples:
  altitude lig 2.2.2.2 --map-resolver 240.0.254.40
  altitude lig 2001:db8:2::2 -m 240.0.254.40 --count 5 --timeout 1
  altitude lig '[77]10.1.2.3' -m 240.0.254.40 --json
  altitude lig self -m 240.0.254.40";

pub(super) const MAP_EXAMPLES: &str = "\
What is put into the map-cache stays until it is taken out or its --ttl is over, and no Map-Reply replaces it. What is put into \
the database (--database) is the site's from then on: registered, answered for, announced, and checked as the configuration is. \
`altitude reload` makes of what the configuration names what that says, and leaves the rest; with the router's end all of it is \
gone: write what shall stay into the file. Changes take root, or membership in the group altitude.

Examples:
  altitude map add 2.2.0.0/16 240.0.254.20
  altitude map add '[5]10.0.0.0/8' 240.0.254.20,1,60 240.0.254.21,1,40 --ttl 3600
  altitude map add 8.0.0.0/8 --action natively-forward
  altitude map change 2.2.0.0/16 240.0.254.21
  altitude map get 2.2.2.2
  altitude map del 2.2.0.0/16
  altitude map badreach 240.0.254.20
  altitude map flush
  altitude map add 1.9.0.0/16 240.0.254.10 --database
  altitude map apply changes.txt --dry-run
  altitude map monitor
  altitude map monitor --only miss --json | jq -r .eid";

pub(super) const TRACE_ABOUT: &str = "\
Watch packets pass through a running router, each with what became of it.

Each packet is shown as it came, with the port and the verdict: encapsulated and to which RLOC, decapsulated, sent on \
natively, split, held until a mapping or a neighbour is known, or dropped and for which reason (the names of `altitude show \
counters`). One that was sent is shown a second time, as it went out. A packet that was held is shown again when its wait \
ends.

With --write they become a pcapng file, one interface for each port, the verdict as comment of each packet: Wireshark shows it \
on top of the packet, `tshark -T fields -e frame.comment` prints it. Without, one line each is printed.

What the router's ports leave to the kernel (ARP, Map-Requests and -Replies, GRE, packets to the router itself) does not come \
here: tcpdump shows that. Times are those of a worker's turn, some microseconds apart. Tracing costs workers some time for \
every packet, and nothing while nobody traces. Packets that find no room on their way here are counted: narrow the filters, \
or shorten --snaplen. One trace runs at a time. It takes root, or membership in the group altitude.";

pub(super) const TRACE_EXAMPLES: &str = "\
A packet is shown if it meets all filters. The trace ends after --count packets, after --seconds, or with Ctrl-C, and then \
says how many packets were not traced.

Examples:
  Why does 2.2.2.2 not answer?
    altitude trace --eid 2.2.2.2

  What is dropped, and why?
    altitude trace --drops
    altitude trace --reason ttl-expired --reason too-big

  Look at it live in Wireshark, or keep it:
    altitude trace --write - --count 100000 --seconds 600 | wireshark -k -i -
    altitude trace --write lost.pcapng --drops --seconds 3600 --count 1000000

  Only headers, of what goes to or comes from one tunnel router, by one port:
    altitude trace --rloc 240.0.254.20 --port eth0 --snaplen 128 --write headers.pcapng";

pub(super) const RUN_ABOUT: &str = "\
Forward packets and speak the control protocols until SIGTERM or SIGINT.

A router with site ports, core ports, RLOCs and EID-prefixes is an xTR: it encapsulates what its site sends to EIDs \
elsewhere and decapsulates what other sites send to its own. With ALT tunnels and routes alone it is an ALT router.

Everything can be given as flags or in a TOML file (--config) with the same names; docker/altitude.example.toml explains \
each. A flag wins over the file; a list given by flags replaces the file's whole list of that name. Locator-sets with \
priorities and weights, and static mappings, are written in the file only. `altitude check FILE` tests a file.";

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  The first site of the slides: hosts 1.1.0.0/16 behind eth1, the core behind eth0, asking the ALT router 240.0.254.30:
    altitude run --site-port eth1 --core-port eth0 --rloc 240.0.254.10 --eid-prefix 1.1.0.0/16 \\
                 --alt-tunnel alt0,remote=240.0.254.30,address=10.42.0.1/30 --alt-route 0.0.0.0/0=alt0

  An ALT router between two sites, without a site of its own:
    altitude run --rloc 240.0.254.30 \\
                 --alt-tunnel alt0,remote=240.0.254.10 --alt-route 1.1.0.0/16=alt0 \\
                 --alt-tunnel alt1,remote=240.0.254.20 --alt-route 2.2.0.0/16=alt1

  The same site with BGP: the ALT router, AS 64530, learns 1.1.0.0/16 and tells us of the other sites:
    altitude run --site-port eth1 --core-port eth0 --rloc 240.0.254.10 --eid-prefix 1.1.0.0/16 \\
                 --alt-tunnel alt0,remote=240.0.254.30,address=10.42.0.1/30 \\
                 --alt-as 64510 --alt-neighbor 10.42.0.2,as=64530,password-file=/etc/altitude/alt0.key

  One port for both sides, two workers on cores 2 and 3, sockets polled for 20 microseconds:
    altitude run --site-port eth0 --core-port eth0 --rloc 2001:db8::10 --eid-prefix 2001:db8:1::/48 \\
                 --workers 2,3 --control-core 1 --busy-poll 20

  A second router on the same machine, on other interfaces:
    altitude run --config second.toml --api /run/altitude/second.sock";
