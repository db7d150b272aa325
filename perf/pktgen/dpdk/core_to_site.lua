-- Pktgen-DPDK: LISP packets from other sites, or any mix of sizes, out of a capture file. Pktgen writes no LISP header
-- itself; the file holds one packet of each flow, and is sent over and over.
--
--   python3 perf/trex/lisp_streams.py pcap core-to-site.pcap core-to-site --size imix
--   PORT=1 pktgen -l 1-3 -n 4 -- -P -m "2.0, 3.1" -s 1:core-to-site.pcap -f perf/pktgen/dpdk/core_to_site.lua

local port = os.getenv("PORT") or "1"
-- Percent of the link's rate.
local rate = tonumber(os.getenv("RATE") or "100")

pktgen.stop(port)
pktgen.set(port, "rate", rate)
-- 0: until stopped.
pktgen.set(port, "count", 0)
pktgen.pcap(port, "on")
pktgen.start(port)
