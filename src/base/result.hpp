#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace curvegate {

/// A layer's list of error codes: an enum class with `describe(code)` (a static text) and
/// `layer_name(code)` (a static word) found beside it.
template <class E>
concept ErrorEnum = std::is_enum_v<E> && requires(E code) {
    { describe(code) } -> std::same_as<std::string_view>;
    { layer_name(code) } -> std::same_as<std::string_view>;
};

/// What went wrong: a code of one layer's enum, and for people an optional detail (a path, a line).
/// Never holds key bytes or payload. The core leaves the detail empty and so allocates nothing.
class Error {
  public:
    template <ErrorEnum E>
    Error(E code, std::string detail = {})  // NOLINT(google-explicit-constructor): `return Errc::x;`
        : layer_(layer_name(code)),
          what_(describe(code)),
          code_(static_cast<int>(code)),
          detail_(std::move(detail)) {}

    template <ErrorEnum E>
    [[nodiscard]] bool is(E code) const noexcept {
        return code_ == static_cast<int>(code) && layer_ == layer_name(code);
    }

    /// The folder the code belongs to, e.g. "wire".
    [[nodiscard]] std::string_view layer() const noexcept { return layer_; }
    /// The code's fixed text, without the detail: stable, usable as a counter's name.
    [[nodiscard]] std::string_view what() const noexcept { return what_; }
    [[nodiscard]] const std::string& detail() const noexcept { return detail_; }
    /// One sentence for a person: "detail: what", or just one of them.
    [[nodiscard]] std::string text() const {
        if (detail_.empty()) return std::string(what_);
        return what_.empty() ? detail_ : detail_ + ": " + std::string(what_);
    }

  private:
    std::string_view layer_;
    std::string_view what_;
    int code_;
    std::string detail_;
};

template <class T = void>
using Result = std::expected<T, Error>;

/// `return fail(Errc::wrong_length);`
template <ErrorEnum E>
[[nodiscard]] std::unexpected<Error> fail(E code, std::string detail = {}) {
    return std::unexpected<Error>(Error(code, std::move(detail)));
}
/// Hands a callee's error on: `if (!r) return fail(std::move(r));`
template <class T>
[[nodiscard]] std::unexpected<Error> fail(Result<T>&& failed) {
    return std::unexpected<Error>(std::move(failed.error()));
}

}  // namespace curvegate
