#include "l4/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "l4/base/fd.h"
#include "l4/base/file.h"
#include "l4/control/model_json.h"

namespace weir::l4 {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr std::size_t kBytesMax = 64 * 1024 * 1024;

Result<std::string> read_whole(const UniqueFd& file, const std::string& path) {
  std::string text;
  std::array<char, 64 * 1024> chunk{};
  for (;;) {
    const ssize_t size = ::read(file.get(), chunk.data(), chunk.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Error::from_errno(fmt::format("reading {}", path));
    if (size == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(size));
    if (text.size() > kBytesMax)
      return Error{ErrorCode::kInvalid, fmt::format("{} is larger than {} bytes", path, kBytesMax)};
  }
}

json load_json(const LoadSettings& load) {
  return {{"devices", load.devices}, {"mode", control::text_of(load.mode)}, {"chain", load.chain}};
}

Result<LoadSettings> load_from_json(const json& value) {
  LoadSettings load;
  load.devices = value.at("devices").get<std::vector<std::string>>();
  load.chain = value.at("chain").get<bool>();
  Result<control::XdpMode> mode = control::parse_xdp_mode(value.at("mode").get<std::string>());
  if (!mode) return std::move(mode).error();
  load.mode = *mode;
  return load;
}

/// May throw nlohmann's exceptions; desired_state_from_json() turns them into an Error.
Result<DesiredState> state_of(const json& document) {
  const int format = document.at("format").get<int>();
  if (format != kFormat)
    return Error{ErrorCode::kUnsupported,
                 fmt::format("format {} was written by another version; this one knows {}", format,
                             kFormat)};
  DesiredState state;
  state.revision = document.at("revision").get<std::uint64_t>();
  state.file = document.at("file").get<std::string>();
  Result<control::Model> model = control::model_from_json(document.at("model").dump());
  if (!model) return std::move(model).error().while_doing("model");
  state.model = *std::move(model);
  for (const json& item : document.at("manual_vips")) {
    Result<control::Vip> vip = control::vip_from_json(item.dump());
    if (!vip) return std::move(vip).error().while_doing("manual_vips");
    state.manual_vips.push_back(*std::move(vip));
  }
  Result<LoadSettings> load = load_from_json(document.at("load"));
  if (!load) return std::move(load).error().while_doing("load");
  state.load = *std::move(load);
  if (!document.contains("overrides")) return state;  // not with versions before health checks
  for (const json& item : document.at("overrides")) {
    Result<control::BackendOverride> read = control::override_from_json(item.dump());
    if (!read) return std::move(read).error().while_doing("overrides");
    state.overrides.push_back(*read);
  }
  return state;
}

}  // namespace

std::string to_json(const DesiredState& state) {
  json manual = json::array();
  for (const control::Vip& vip : state.manual_vips)
    manual.push_back(json::parse(control::to_json(vip)));
  json overrides = json::array();
  for (const control::BackendOverride& item : state.overrides)
    overrides.push_back(json::parse(control::to_json(item)));
  const json document{{"format", kFormat},
                      {"revision", state.revision},
                      {"file", state.file},
                      {"model", json::parse(control::to_json(state.model))},
                      {"manual_vips", std::move(manual)},
                      {"load", load_json(state.load)},
                      {"overrides", std::move(overrides)}};
  return document.dump(1) + "\n";
}

Result<DesiredState> desired_state_from_json(std::string_view text) {
  try {
    return state_of(json::parse(text));
  } catch (const json::exception& error) {
    return Error{ErrorCode::kInvalid, error.what()};
  }
}

Result<Store> Store::open(std::string directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error)
    return Error::from_errno(fmt::format("creating the state directory {}", directory),
                             error.value());
  if (::chmod(directory.c_str(), S_IRWXU) != 0)
    return Error::from_errno(fmt::format("closing the state directory {} to others", directory));
  return Store{std::move(directory)};
}

Result<DesiredState> Store::read() const {
  const UniqueFd file{::open(path().c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file && errno == ENOENT) return DesiredState{};
  if (!file) return Error::from_errno(fmt::format("opening {}", path()));
  Result<std::string> text = read_whole(file, path());
  if (!text) return std::move(text).error();
  Result<DesiredState> state = desired_state_from_json(*text);
  if (!state)
    return std::move(state)
        .error()
        .while_doing(fmt::format("understanding {}", path()))
        .with_remedy("restore it from a backup, or move it away to start from nothing");
  return state;
}

Result<StagedFile> Store::stage(const DesiredState& state) const {
  return StagedFile::stage(path(), to_json(state), S_IRUSR | S_IWUSR);
}

}  // namespace weir::l4
