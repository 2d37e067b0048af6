#include "l7/tcp/segment.h"

#include <algorithm>
#include <new>
#include <type_traits>

#include "l4/base/bytes.h"

namespace weir::tcp {
namespace {

constexpr std::uint8_t kOptionEnd = 0;
constexpr std::uint8_t kOptionNop = 1;
constexpr std::uint8_t kOptionMss = 2;
constexpr std::uint8_t kOptionWindowScale = 3;
constexpr std::uint8_t kOptionSackPermitted = 4;
constexpr std::uint8_t kOptionSack = 5;
constexpr std::uint8_t kOptionTimestamps = 8;

constexpr std::uint8_t kWindowScaleMax = 14;  // RFC 7323, section 2.3
constexpr std::uint8_t kWordBytes = 4;

struct TimestampsOnWire {
  wire::be32 value;
  wire::be32 echo;
};

struct SackBlockOnWire {
  wire::be32 start;
  wire::be32 end;
};
static_assert(sack_bytes(1) == 4 + sizeof(SackBlockOnWire));

/// Time stamps alone, laid out as RFC 7323, appendix A, recommends and as everybody does it: the
/// options of nearly every segment of an open connection. Read and written whole: 13 instructions
/// where the options one by one take about 150.
struct StampsAlone {
  wire::be32 head;
  TimestampsOnWire stamps;
};
static_assert(sizeof(StampsAlone) == kTimestampsBytes);
constexpr std::uint32_t kStampsAloneHead =
    std::uint32_t{kOptionNop} << 24 | std::uint32_t{kOptionNop} << 16 |
    std::uint32_t{kOptionTimestamps} << 8 | std::uint32_t{2 + sizeof(TimestampsOnWire)};

/// False when the length does not fit the kind.
bool read_option(std::uint8_t kind, std::span<const std::byte> value, SegmentOptions& options) {
  ByteReader reader{value};
  switch (kind) {
    case kOptionMss:
      if (value.size() != sizeof(wire::be16)) return false;
      options.mss = reader.take<wire::be16>()->host();
      return true;
    case kOptionWindowScale:
      if (value.size() != 1) return false;
      options.window_scale = std::min(*reader.take<std::uint8_t>(), kWindowScaleMax);
      return true;
    case kOptionSackPermitted:
      options.sack_permitted = true;
      return value.empty();
    case kOptionSack:
      while (options.sack_count < kSackBlocksMax) {
        const auto block = reader.take<SackBlockOnWire>();
        if (!block) break;
        options.sack[options.sack_count++] = {Seq{block->start.host()}, Seq{block->end.host()}};
      }
      return reader.remaining() == 0;
    case kOptionTimestamps: {
      const auto stamps = reader.take<TimestampsOnWire>();
      if (!stamps || reader.remaining() != 0) return false;
      options.timestamps = {stamps->value.host(), stamps->echo.host()};
      return true;
    }
    default:
      return true;  // RFC 9293, section 3.1: unknown options are skipped by their length
  }
}

bool parse_options(std::span<const std::byte> bytes, SegmentOptions& options) {
  ByteReader reader{bytes};
  if (bytes.size() == sizeof(StampsAlone)) {
    const auto usual = ByteReader{bytes}.take<StampsAlone>();
    if (usual->head.host() == kStampsAloneHead) {
      options.timestamps = {usual->stamps.value.host(), usual->stamps.echo.host()};
      return true;
    }
  }
  while (const auto kind = reader.take<std::uint8_t>()) {
    if (*kind == kOptionEnd) return true;
    if (*kind == kOptionNop) continue;
    const auto length = reader.take<std::uint8_t>();
    if (!length || *length < 2) return false;
    const auto value = reader.take_bytes(*length - std::size_t{2});
    if (!value || !read_option(*kind, *value, options)) return false;
  }
  return true;
}

/// Writes options front to back into exactly as many bytes as options_size() said.
class OptionWriter {
 public:
  explicit OptionWriter(std::span<std::byte> out) : out_{out} {}

  void byte(std::uint8_t value) {
    out_.front() = std::byte{value};
    out_ = out_.subspan(1);
  }
  template <typename T>
  void put(const T& value) {
    store(out_, value);
    out_ = out_.subspan(sizeof(T));
  }

 private:
  std::span<std::byte> out_;
};

void write_options(std::span<std::byte> out, const SegmentOptions& options) {
  if (out.empty()) return;
  if (options.timestamps && out.size() == kTimestampsBytes) {
    store(out, StampsAlone{
                   wire::be32{kStampsAloneHead},
                   {wire::be32{options.timestamps->value}, wire::be32{options.timestamps->echo}}});
    return;
  }
  OptionWriter writer{out};
  if (options.mss) {
    writer.byte(kOptionMss);
    writer.byte(4);
    writer.put(wire::be16{*options.mss});
  }
  if (options.sack_permitted) {
    writer.byte(kOptionNop);
    writer.byte(kOptionNop);
    writer.byte(kOptionSackPermitted);
    writer.byte(2);
  }
  if (options.window_scale) {
    writer.byte(kOptionNop);
    writer.byte(kOptionWindowScale);
    writer.byte(3);
    writer.byte(*options.window_scale);
  }
  if (options.timestamps) {
    writer.byte(kOptionNop);
    writer.byte(kOptionNop);
    writer.byte(kOptionTimestamps);
    writer.byte(2 + sizeof(TimestampsOnWire));
    writer.put(TimestampsOnWire{wire::be32{options.timestamps->value},
                                wire::be32{options.timestamps->echo}});
  }
  if (options.sack_count > 0) {
    writer.byte(kOptionNop);
    writer.byte(kOptionNop);
    writer.byte(kOptionSack);
    writer.byte(static_cast<std::uint8_t>(2 + options.sack_count * sizeof(SackBlockOnWire)));
    for (std::size_t i = 0; i < options.sack_count; ++i)
      writer.put(SackBlockOnWire{wire::be32{options.sack[i].start.value()},
                                 wire::be32{options.sack[i].end.value()}});
  }
}

}  // namespace

std::optional<SegmentView> parse_segment(std::span<const std::byte> bytes) {
  using wire::TcpHeader;
  ByteReader reader{bytes};
  const auto header = reader.take<TcpHeader>();
  if (!header) return std::nullopt;
  const std::size_t header_bytes = std::size_t{header->data_offset} / 16 * kWordBytes;
  if (header_bytes < sizeof(TcpHeader)) return std::nullopt;
  const auto options = reader.take_bytes(header_bytes - sizeof(TcpHeader));
  if (!options) return std::nullopt;
  SegmentView view{.source_port = header->source_port.host(),
                   .destination_port = header->destination_port.host(),
                   .seq = Seq{header->sequence.host()},
                   .ack = Seq{header->acknowledgment.host()},
                   .flags = header->flags,
                   .window = header->window.host(),
                   .options = {},
                   .payload = reader.rest()};
  // No state has a use for these pairs; they come from scanners.
  if (view.syn() && (view.rst() || view.fin())) return std::nullopt;
  if (!parse_options(*options, view.options)) return std::nullopt;
  return view;
}

std::size_t options_size(const SegmentOptions& options) {
  std::size_t size = 0;
  if (options.mss) size += 4;
  if (options.sack_permitted) size += 4;
  if (options.window_scale) size += 4;
  if (options.timestamps) size += kTimestampsBytes;
  return size + sack_bytes(options.sack_count);
}

std::span<std::byte> build_segment(port::Packet& packet, const SegmentHeader& header,
                                   std::size_t payload) {
  const std::size_t header_bytes = sizeof(wire::TcpHeader) + options_size(header.options);
  const std::span<std::byte> out = packet.append(header_bytes + payload);
  // In place: made on the stack and copied, the copy's wide loads wait for the narrow stores.
  static_assert(alignof(wire::TcpHeader) == 1 && std::is_trivially_copyable_v<wire::TcpHeader>);
  ::new (out.first(sizeof(wire::TcpHeader)).data())
      wire::TcpHeader{.source_port = wire::be16{header.source_port},
                      .destination_port = wire::be16{header.destination_port},
                      .sequence = wire::be32{header.seq.value()},
                      .acknowledgment = wire::be32{header.ack.value()},
                      .data_offset = static_cast<std::uint8_t>(header_bytes / kWordBytes << 4),
                      .flags = header.flags,
                      .window = wire::be16{header.window},
                      .checksum = {},
                      .urgent_pointer = {}};
  write_options(out.subspan(sizeof(wire::TcpHeader), header_bytes - sizeof(wire::TcpHeader)),
                header.options);
  return out.subspan(header_bytes);
}

}  // namespace weir::tcp
