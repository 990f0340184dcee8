#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "os/socket.hpp"

#include <termios.h>

#include <cstddef>
#include <memory>
#include <string_view>

namespace curvegate::cli {

/// Room for secret bytes on their way: never moved, kept from swap where the system allows, wiped at the end.
class WipedBuffer {
  public:
    explicit WipedBuffer(std::size_t size);
    ~WipedBuffer();
    WipedBuffer(const WipedBuffer&) = delete;
    WipedBuffer& operator=(const WipedBuffer&) = delete;

    [[nodiscard]] MutableBytes room() noexcept { return {bytes_.get(), size_}; }
    /// What was read into it.
    [[nodiscard]] MutableBytes content() noexcept { return {bytes_.get(), used_}; }
    [[nodiscard]] std::string_view text() noexcept { return as_text(content()); }
    /// The text without white space and line ends around it.
    [[nodiscard]] std::string_view trimmed() noexcept;
    void set_used(std::size_t size) noexcept { used_ = size; }

  private:
    std::unique_ptr<Byte[]> bytes_;
    std::size_t size_;
    std::size_t used_ = 0;
};

/// Reads to the end of `fd`; more than the buffer holds is an error. `name` stands in errors.
[[nodiscard]] Result<> read_secret(int fd, std::string_view name, WipedBuffer& into);

/// The terminal (/dev/tty), mute as long as this lives: no echo, no line editing, no signals, since a Ctrl-C
/// that ended the program would leave the terminal mute.
class HiddenTerminal {
  public:
    HiddenTerminal();
    ~HiddenTerminal();
    HiddenTerminal(const HiddenTerminal&) = delete;
    HiddenTerminal& operator=(const HiddenTerminal&) = delete;

    /// Asks for one line. False if there is no terminal, the answer was broken off (Ctrl-C, Ctrl-D) or is
    /// longer than the buffer.
    [[nodiscard]] bool ask(std::string_view question, WipedBuffer& into);

  private:
    os::UniqueFd fd_;
    termios before_{};
    bool good_ = false;
};

}  // namespace curvegate::cli
