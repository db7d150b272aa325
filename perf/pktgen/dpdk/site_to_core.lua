-- Pktgen-DPDK: what hosts of the site send to other sites, from the range generator.
--
--   PORT=0 SIZE=1400 pktgen -l 1-3 -n 4 -- -P -m "2.0, 3.1" -f perf/pktgen/dpdk/site_to_core.lua
--
-- Settings come from the environment; each has a default. Every field of the range generator takes its next value with
-- every packet, so there are as many flows as the least common multiple of prefixes and source ports.

local function setting(name, default)
    return os.getenv(name) or default
end

local port = setting("PORT", "0")
local family = setting("FAMILY", "ipv4")
local ipv4 = family == "ipv4"
-- Octets of a frame, check sequence included. For a mix of sizes use a capture file, as core_to_site.lua does.
local size = tonumber(setting("SIZE", "64"))
-- Percent of the link's rate.
local rate = tonumber(setting("RATE", "100"))
local router_mac = setting("ROUTER_MAC", "02:00:00:00:01:02")
local own_mac = setting("OWN_MAC", "02:00:00:00:01:01")
local source = setting("LOCAL_EID", ipv4 and "1.1.1.1" or "2001:db8:1:1::1")
-- The first and the last remote EID, and the way from each to the next: 256 prefixes of /24 or /64.
local first = setting("FIRST_EID", ipv4 and "2.2.0.2" or "2001:db8:2::2")
local last = setting("LAST_EID", ipv4 and "2.2.255.2" or "2001:db8:2:ff::2")
local step = setting("STEP_EID", ipv4 and "0.0.1.0" or "0:0:0:1::")
local ports = tonumber(setting("SOURCE_PORTS", "251"))

local function range(field, start, min, max, inc)
    local set = pktgen.range[field]
    set(port, "start", start)
    set(port, "min", min)
    set(port, "max", max)
    set(port, "inc", inc)
end

pktgen.stop(port)
pktgen.set_type(port, family)
pktgen.set_proto(port, "udp")
pktgen.set(port, "rate", rate)
-- 0: until stopped.
pktgen.set(port, "count", 0)
range("dst_mac", router_mac, router_mac, router_mac, "00:00:00:00:00:00")
range("src_mac", own_mac, own_mac, own_mac, "00:00:00:00:00:00")
range("src_ip", source, source, source, ipv4 and "0.0.0.0" or "::")
range("dst_ip", first, first, last, step)
range("src_port", 1024, 1024, 1024 + ports - 1, 1)
range("dst_port", 2000, 2000, 2000, 0)
range("pkt_size", size, size, size, 0)
pktgen.range.ip_proto(port, "udp")
if not ipv4 then
    pktgen.range.set_type(port, family)
end
pktgen.set_range(port, "on")
pktgen.start(port)
