#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "l4/base/assert.h"

namespace weir {

/// What kind of failure it is, for callers that act on it. The text is for people.
enum class ErrorCode {
  kInvalid,      ///< the input is wrong; nothing was changed
  kNotFound,     ///< the named object does not exist
  kConflict,     ///< the object exists already, or something else owns the place
  kUnsupported,  ///< this kernel, device or build cannot do it
  kDenied,       ///< rights are missing
  kUnavailable,  ///< a resource or a peer is not there now; trying again may help
  kInternal,     ///< a system call failed in a way that has no better name
};

/// A failure in one line: what was being done, to what, what went wrong, and what to do about it.
/// Context is added on the way up, outermost first: "loading eth0: attaching weir_lb: …".
class Error {
 public:
  Error(ErrorCode code, std::string message, std::string remedy = {})
      : code_{code}, message_{std::move(message)}, remedy_{std::move(remedy)} {}

  /// From an errno value, taken before anything else can change it.
  static Error from_errno(std::string_view doing, int error_number = errno) {
    return Error{code_of(error_number), fmt::format("{}: {}", doing, std::strerror(error_number))};
  }

  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }
  [[nodiscard]] const std::string& remedy() const { return remedy_; }

  /// The whole line: "message; remedy".
  [[nodiscard]] std::string text() const {
    return remedy_.empty() ? message_ : fmt::format("{}; {}", message_, remedy_);
  }

  [[nodiscard]] Error while_doing(std::string_view doing) && {
    message_ = fmt::format("{}: {}", doing, message_);
    return std::move(*this);
  }
  [[nodiscard]] Error with_remedy(std::string remedy) && {
    remedy_ = std::move(remedy);
    return std::move(*this);
  }

 private:
  static ErrorCode code_of(int error_number) {
    switch (error_number) {
      case EPERM:
      case EACCES:
        return ErrorCode::kDenied;
      case ENOENT:
      case ENODEV:
      case ESRCH:
        return ErrorCode::kNotFound;
      case EEXIST:
      case EBUSY:
        return ErrorCode::kConflict;
      case EOPNOTSUPP:
      case ENOSYS:
        return ErrorCode::kUnsupported;
      case EINVAL:
        return ErrorCode::kInvalid;
      case EAGAIN:
      case ENOMEM:
      case ENOSPC:
      case ECONNREFUSED:
        return ErrorCode::kUnavailable;
      default:
        return ErrorCode::kInternal;
    }
  }

  ErrorCode code_;
  std::string message_;
  std::string remedy_;
};

/// A value or an Error. Look before you take: value access without a value is a programming error.
/// May become std::expected once the toolchain has it; the member names follow it.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_{std::in_place_index<0>, std::move(value)} {}      // NOLINT: implicit
  Result(Error error) : state_{std::in_place_index<1>, std::move(error)} {}  // NOLINT: implicit

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  T& value() & {
    WEIR_ASSERT(has_value());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    WEIR_ASSERT(has_value());
    return *std::get_if<0>(&state_);
  }
  T&& value() && { return std::move(value()); }

  Error& error() & {
    WEIR_ASSERT(!has_value());
    return *std::get_if<1>(&state_);
  }
  const Error& error() const& {
    WEIR_ASSERT(!has_value());
    return *std::get_if<1>(&state_);
  }
  Error&& error() && { return std::move(error()); }

 private:
  std::variant<T, Error> state_;
};

/// Success without a value: `return {};`.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_{std::move(error)} {}  // NOLINT: implicit

  [[nodiscard]] bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }

  Error& error() & {
    WEIR_ASSERT(error_.has_value());
    return *error_;
  }
  const Error& error() const& {
    WEIR_ASSERT(error_.has_value());
    return *error_;
  }
  Error&& error() && { return std::move(error()); }

 private:
  std::optional<Error> error_;
};

}  // namespace weir
