-- Dry run: prints what a script for Pktgen-DPDK does as commands of Pktgen's prompt, which `load FILE.pkt` runs.
--
--   SIZE=1400 lua5.4 perf/pktgen/dpdk/commands.lua perf/pktgen/dpdk/site_to_core.lua > site-to-core-1400.pkt

local function say(...)
    print(table.concat({ ... }, " "))
end

-- Names of the range generator's fields at the prompt.
local fields = {
    dst_mac = "dst mac",
    src_mac = "src mac",
    dst_ip = "dst ip",
    src_ip = "src ip",
    dst_port = "dst port",
    src_port = "src port",
    pkt_size = "size",
}

local range = {
    ip_proto = function(port, proto)
        say("range", port, "proto", proto)
    end,
    set_type = function(port, family)
        say("range", port, "type", family)
    end,
}
for field, name in pairs(fields) do
    range[field] = function(port, which, value)
        assert(which == "start" or which == "min" or which == "max" or which == "inc", which)
        say("range", port, name, which, tostring(value))
    end
end

local states = { on = "enable", off = "disable" }

-- What is not here is not known to work in Pktgen: calling it is an error.
pktgen = {
    range = range,
    start = function(port) say("start", port) end,
    stop = function(port) say("stop", port) end,
    set_type = function(port, family) say("set", port, "type", family) end,
    set_proto = function(port, proto) say("set", port, "proto", proto) end,
    set = function(port, what, value)
        assert(what == "rate" or what == "count", what)
        say("set", port, what, tostring(value))
    end,
    set_range = function(port, state) say(states[state], port, "range") end,
    pcap = function(port, state) say(states[state], port, "pcap") end,
}

dofile(arg[1])
