-- GUE variant 1 for tshark 4.0, which knows none: the datagram's payload is an IP packet, told by its
-- version field. Everything else is the decoder's own.
local gue = Proto("weir_gue", "Generic UDP Encapsulation, variant 1")

function gue.dissector(buffer, packet, tree)
  local version = buffer(0, 1):bitfield(0, 4)
  if version == 4 then
    Dissector.get("ip"):call(buffer, packet, tree)
  elseif version == 6 then
    Dissector.get("ipv6"):call(buffer, packet, tree)
  end
end

DissectorTable.get("udp.port"):add(6080, gue)
