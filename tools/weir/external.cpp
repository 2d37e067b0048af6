#include "tools/weir/external.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace weir::cli {
namespace {

namespace fs = std::filesystem;

/// Where to look, in order.
std::vector<fs::path> candidates(const std::string& name) {
  std::vector<fs::path> found;
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error);
  if (!error) found.push_back(own.parent_path() / name);
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const std::string_view folder = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    if (!folder.empty()) found.push_back(fs::path{folder} / name);
  }
  return found;
}

}  // namespace

Error become(const std::string& name, const std::vector<std::string>& arguments) {
  std::vector<std::string> texts{name};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& text : texts)
    argv.push_back(text.data());
  argv.push_back(nullptr);
  for (const fs::path& candidate : candidates(name)) {
    ::execv(candidate.c_str(), argv.data());
    if (errno != ENOENT && errno != ENOTDIR)
      return Error::from_errno(fmt::format("running {}", candidate.string()));
  }
  return Error{
      ErrorCode::kNotFound,
      fmt::format("{} is not installed: it is neither beside this program nor on PATH", name),
      "install it, or add its folder to PATH"};
}

}  // namespace weir::cli
