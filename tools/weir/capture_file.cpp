#include "tools/weir/capture_file.h"

#include <bit>
#include <cstring>
#include <optional>

namespace weir::cli {
namespace {

constexpr std::uint32_t kSectionHeader = 0x0a0d0d0a;
constexpr std::uint32_t kInterfaceDescription = 1;
constexpr std::uint32_t kSimplePacket = 3;
constexpr std::uint32_t kInterfaceStatistics = 5;
constexpr std::uint32_t kEnhancedPacket = 6;
constexpr std::uint32_t kByteOrder = 0x1a2b3c4d;
constexpr std::uint32_t kEthernet = 1;
constexpr std::uint32_t kPcapMicroseconds = 0xa1b2c3d4;
constexpr std::uint32_t kPcapNanoseconds = 0xa1b23c4d;

// Options of blocks.
constexpr std::uint16_t kEndOfOptions = 0;
constexpr std::uint16_t kComment = 1;
constexpr std::uint16_t kSectionApplication = 4;
constexpr std::uint16_t kInterfaceName = 2;
constexpr std::uint16_t kInterfaceResolution = 9;
constexpr std::uint16_t kInterfaceDropped = 5;

/// A block or a part of one, in the byte order of this machine, which the section's header states.
class Block {
 public:
  template <typename T>
  Block& add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));  // char may alias anything
    return *this;
  }
  Block& add_bytes(std::string_view bytes) {
    bytes_ += bytes;
    bytes_.append(-bytes_.size() & 3, '\0');
    return *this;
  }
  Block& add_option(std::uint16_t code, std::string_view value) {
    add(code).add(static_cast<std::uint16_t>(value.size()));
    return add_bytes(value);
  }
  Block& end_options() { return add(kEndOfOptions).add(std::uint16_t{0}); }

  /// Framed by its type and, twice, its length.
  [[nodiscard]] std::string framed(std::uint32_t type) const {
    const auto length = static_cast<std::uint32_t>(bytes_.size() + 12);
    Block whole;
    whole.add(type).add(length).add_bytes(bytes_).add(length);
    return whole.bytes_;
  }

 private:
  std::string bytes_;
};

std::string description_of(std::string_view device) {
  return Block{}
      .add(static_cast<std::uint16_t>(kEthernet))
      .add(std::uint16_t{0})
      .add(std::uint32_t{0})  // no limit of bytes kept: each packet says how many there are
      .add_option(kInterfaceName, device)
      .add_option(kInterfaceResolution, std::string_view{"\x09", 1})
      .end_options()
      .framed(kInterfaceDescription);
}

std::uint32_t upper(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }
std::uint32_t lower(std::uint64_t value) { return static_cast<std::uint32_t>(value); }

}  // namespace

CaptureWriter::CaptureWriter(std::string_view application) : application_{application} {}

std::string CaptureWriter::head() const {
  return Block{}
      .add(kByteOrder)
      .add(std::uint16_t{1})  // version 1.0
      .add(std::uint16_t{0})
      .add(~std::uint64_t{0})  // the section's length is not known yet
      .add_option(kSectionApplication, application_)
      .end_options()
      .framed(kSectionHeader);
}

std::string CaptureWriter::packet(const Packet& packet) {
  std::string blocks;
  auto device = devices_.find(packet.device);
  if (device == devices_.end()) {
    const auto index = static_cast<std::uint32_t>(devices_.size());
    device = devices_.emplace(packet.device, index).first;
    blocks = description_of(packet.device);
  }
  const std::string_view kept{reinterpret_cast<const char*>(packet.kept.data()),
                              packet.kept.size()};  // char may alias anything
  Block block;
  block.add(device->second)
      .add(upper(packet.time_ns))
      .add(lower(packet.time_ns))
      .add(static_cast<std::uint32_t>(kept.size()))
      .add(packet.frame_bytes)
      .add_bytes(kept);
  if (!packet.comment.empty()) block.add_option(kComment, packet.comment).end_options();
  return blocks + block.framed(kEnhancedPacket);
}

std::string CaptureWriter::tail(std::uint64_t lost, std::uint64_t now_ns) const {
  if (devices_.empty()) return {};
  const std::string_view count{reinterpret_cast<const char*>(&lost), sizeof(lost)};
  return Block{}
      .add(std::uint32_t{0})
      .add(upper(now_ns))
      .add(lower(now_ns))
      .add_option(kInterfaceDropped, count)
      .end_options()
      .framed(kInterfaceStatistics);
}

namespace {

/// Reads numbers in the byte order that the file was found to have.
class FileReader {
 public:
  FileReader(std::span<const std::byte> bytes, std::string name)
      : bytes_{bytes}, name_{std::move(name)} {}

  [[nodiscard]] std::size_t left() const { return bytes_.size() - at_; }
  [[nodiscard]] Error cut() const {
    return Error{
        ErrorCode::kInvalid,
        fmt::format("{} ends at byte {}, amid a packet or its header", name_, bytes_.size()),
        "it was cut, or is still being written"};
  }
  [[nodiscard]] Error refused(std::string_view what) const {
    return Error{ErrorCode::kInvalid, fmt::format("{}, byte {}: {}", name_, at_, what),
                 "give a capture of Ethernet frames, pcap or pcapng"};
  }
  [[nodiscard]] std::optional<std::uint32_t> word_at(std::size_t offset) const {
    std::uint32_t word = 0;
    if (left() < offset + sizeof(word)) return std::nullopt;
    std::memcpy(&word, bytes_.data() + at_ + offset, sizeof(word));
    return is_swapped_ ? __builtin_bswap32(word) : word;
  }
  void swap() { is_swapped_ = !is_swapped_; }
  [[nodiscard]] std::optional<std::span<const std::byte>> bytes_at(std::size_t offset,
                                                                   std::size_t count) const {
    if (left() < offset || left() - offset < count) return std::nullopt;
    return bytes_.subspan(at_ + offset, count);
  }
  void skip(std::size_t count) { at_ += count; }

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
  std::size_t at_ = 0;
  bool is_swapped_ = false;
};

using Frames = std::vector<std::vector<std::byte>>;

Result<void> add_frame(const FileReader& file, std::size_t offset, std::size_t bytes,
                       std::size_t frames_max, Frames& frames) {
  if (frames.size() == frames_max)
    return Error{ErrorCode::kInvalid,
                 fmt::format("the file holds more than {} packets", frames_max),
                 "cut it: editcap -r FILE OUT 1-100"};
  const auto frame = file.bytes_at(offset, bytes);
  if (!frame) return file.cut();
  frames.emplace_back(frame->begin(), frame->end());
  return {};
}

Result<Frames> read_pcap(FileReader file, std::size_t frames_max) {
  constexpr std::size_t kHeader = 24;
  constexpr std::size_t kRecord = 16;
  const auto link_type = file.word_at(20);
  if (!link_type) return file.cut();
  if ((*link_type & 0xffff) != kEthernet)
    return file.refused(fmt::format("its link type is {}, not Ethernet", *link_type & 0xffff));
  file.skip(kHeader);
  Frames frames;
  while (file.left() > 0) {
    const auto kept = file.word_at(8);
    if (!kept || file.left() < kRecord) return file.cut();
    if (Result<void> added = add_frame(file, kRecord, *kept, frames_max, frames); !added)
      return std::move(added).error();
    file.skip(kRecord + *kept);
  }
  return frames;
}

/// The frame of one block of pcapng, if it has one.
Result<void> read_block(const FileReader& file, std::uint32_t type, std::uint32_t length,
                        std::size_t frames_max, Frames& frames) {
  if (type == kInterfaceDescription && (file.word_at(8).value_or(0) & 0xffff) != kEthernet)
    return file.refused("a device of it is not Ethernet");
  if (type != kEnhancedPacket && type != kSimplePacket) return {};
  const std::size_t header = type == kEnhancedPacket ? 28 : 12;
  if (length < header + 4) return file.refused("a block that is too short");
  const std::uint32_t room = length - 4 - static_cast<std::uint32_t>(header);
  // A simple packet says only how long it was; it is whole, or ends with the block.
  const std::uint32_t bytes = file.word_at(type == kEnhancedPacket ? 20 : 8).value_or(0);
  if (type == kEnhancedPacket && bytes > room)
    return file.refused("a packet longer than its block");
  return add_frame(file, header, std::min(bytes, room), frames_max, frames);
}

Result<Frames> read_pcapng(FileReader file, std::size_t frames_max) {
  Frames frames;
  while (file.left() > 0) {
    auto type = file.word_at(0);
    const auto order = file.word_at(8);
    if (type == kSectionHeader && order && *order != kByteOrder) {
      file.swap();  // the type reads the same both ways; the length does not
      if (file.word_at(8) != kByteOrder) return file.refused("no pcapng section");
    }
    const auto length = file.word_at(4);
    if (!type || !length || !file.bytes_at(0, *length)) return file.cut();
    if (*length < 12 || *length % 4 != 0) return file.refused("a block of impossible length");
    if (Result<void> read = read_block(file, *type, *length, frames_max, frames); !read)
      return std::move(read).error();
    file.skip(*length);
  }
  return frames;
}

}  // namespace

Result<Frames> read_capture(std::span<const std::byte> bytes, const std::string& name,
                            std::size_t frames_max) {
  FileReader file{bytes, name};
  const auto magic = file.word_at(0);
  if (!magic) return file.cut();
  if (*magic == kSectionHeader) return read_pcapng(file, frames_max);
  if (*magic == kPcapMicroseconds || *magic == kPcapNanoseconds) return read_pcap(file, frames_max);
  file.swap();
  const std::uint32_t swapped = file.word_at(0).value_or(0);
  if (swapped == kPcapMicroseconds || swapped == kPcapNanoseconds)
    return read_pcap(file, frames_max);
  return file.refused("neither pcap nor pcapng");
}

}  // namespace weir::cli
