#include "cli/stdio.hpp"

#include "base/bytes.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <boost/asio/post.hpp>

#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

namespace curvegate::cli {
namespace {

constexpr std::size_t kBuffer = std::size_t{128} * 1024;

/// After a call that gave less than nothing: is it worth another try? Waits if the descriptor, which others
/// may have made non-blocking, is not ready.
bool try_again(int fd, short event) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
    pollfd waiting{fd, event, 0};
    return ::poll(&waiting, 1, -1) >= 0 || errno == EINTR;
}

ssize_t read_some(int fd, MutableBytes into) {
    for (;;) {
        const ssize_t got = ::read(fd, into.data(), into.size());
        if (got >= 0 || !try_again(fd, POLLIN)) return got;
    }
}

bool write_whole(int fd, Bytes bytes) {
    while (!bytes.empty()) {
        const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
        if (wrote >= 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(wrote));
        } else if (!try_again(fd, POLLOUT)) {
            return false;
        }
    }
    return true;
}

std::string why(std::string_view what) {
    return std::string(what) + ": " + std::strerror(errno);
}

}  // namespace

Result<StandardFds> take_standard_descriptors() {
    const auto take = [](int fd) { return os::UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)); };
    StandardFds out{take(STDIN_FILENO), take(STDOUT_FILENO)};
    const os::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const bool good = out.in && out.out && null && ::dup2(null.get(), STDIN_FILENO) >= 0 &&
                      ::dup2(null.get(), STDOUT_FILENO) >= 0;
    if (!good) return os::fail_errno("standard input and output");
    return out;
}

struct Stdio::Shared {
    Shared(asio::io_context& on, StandardFds standard) : context(on), fds(std::move(standard)) {}

    void tell(EndedFn Shared::* handler, std::optional<std::string> what) {
        const std::scoped_lock lock(mutex);
        if (!(this->*handler)) return;
        asio::post(context, [tell = this->*handler, what = std::move(what)] { tell(what); });
    }

    void read_input() {
        std::vector<Byte> buffer(kBuffer);
        for (;;) {
            const ssize_t got = read_some(fds.in.get(), buffer);
            if (got < 0) return tell(&Shared::on_failed, why("standard input"));
            if (got == 0) break;
            // The other end is closed: whoever closed it knows why.
            if (!write_whole(socket.get(), Bytes(buffer).first(static_cast<std::size_t>(got)))) return;
        }
        ::shutdown(socket.get(), SHUT_WR);
    }

    void write_output() {
        std::vector<Byte> buffer(kBuffer);
        for (;;) {
            const ssize_t got = read_some(socket.get(), buffer);
            if (got <= 0) break;  // a reset only says that the other end had more of ours to read
            if (!write_whole(fds.out.get(), Bytes(buffer).first(static_cast<std::size_t>(got))))
                return tell(&Shared::on_written, why("standard output"));
        }
        tell(&Shared::on_written, end_output());
    }

    // Standard output may be one socket with standard input: closing it would say nothing to its other end.
    [[nodiscard]] std::optional<std::string> end_output() {
        ::shutdown(fds.out.get(), SHUT_WR);
        if (::close(fds.out.release()) != 0 && errno != EINTR) return why("standard output");
        return std::nullopt;
    }

    asio::io_context& context;
    std::mutex mutex;  // of the two handlers
    EndedFn on_failed;
    EndedFn on_written;
    os::UniqueFd socket;
    StandardFds fds;
};

Stdio::Stdio(asio::io_context& context, StandardFds fds, EndedFn on_failed, EndedFn on_written)
    : shared_(std::make_shared<Shared>(context, std::move(fds))) {
    shared_->on_failed = std::move(on_failed);
    shared_->on_written = std::move(on_written);
}

Stdio::~Stdio() {
    const std::scoped_lock lock(shared_->mutex);
    shared_->on_failed = nullptr;
    shared_->on_written = nullptr;
}

Result<os::UniqueFd> Stdio::start() {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
        return os::fail_errno("a pair of sockets");
    shared_->socket = os::UniqueFd(pair[0]);
    os::UniqueFd theirs(pair[1]);
    const int flags = ::fcntl(theirs.get(), F_GETFL);
    if (flags < 0 || ::fcntl(theirs.get(), F_SETFL, flags | O_NONBLOCK) != 0)
        return os::fail_errno("a pair of sockets");
    std::thread([shared = shared_] { shared->read_input(); }).detach();
    std::thread([shared = shared_] { shared->write_output(); }).detach();
    return theirs;
}

}  // namespace curvegate::cli
