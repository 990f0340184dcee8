#include "handshake/curvecp/client.hpp"
#include "os/random.hpp"
#include "os/secret_pages.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

/// Hellos for bench/udp.py, each with a good box of a key pair of its own, cheap to send: one socket that
/// sends under many addresses of 127.0.0.0/8.
///
///   curvegate-flooder ask   HOST PORT KEY SECONDS IN-FLIGHT   a new Hello for every Cookie, from 127.0.0.1
///   curvegate-flooder flood HOST PORT KEY RATE                from 1,000 addresses in four /24s, until the
///                                                             standard input ends
///
/// "ready" on the standard output, then one line of JSON: packets sent, cookies that came, seconds.
namespace curvegate {
namespace {

using Clock = std::chrono::steady_clock;
using Hello = ByteArray<wire::curvecp::kHelloSize>;

constexpr std::size_t kNetworks = 4;
constexpr std::size_t kSourcesANetwork = 250;
constexpr std::size_t kSources = kNetworks * kSourcesANetwork;
constexpr std::size_t kBatch = 64;  // packets a call
constexpr Duration kMostBehind = std::chrono::milliseconds(50);
constexpr int kPatience = 100;  // milliseconds without a cookie: what was in flight is lost
constexpr int kBuffer = 4 << 20;

struct Totals {
    std::uint64_t sent = 0;
    std::uint64_t cookies = 0;
    Clock::time_point begun = Clock::now();
};

/// A Hello of a client that wants to reach `server`; nothing: no randomness or memory.
std::optional<Hello> make_hello(crypto::SecretPool& pool, const crypto::PublicKey& server) {
    os::SystemRandom random;
    auto keys = crypto::EphemeralKeyPair::generate(pool, random);
    const auto name = wire::curvecp::encode_server_name("web");
    if (!keys || !name) return std::nullopt;
    const auto now = Clock::now();
    handshake::curvecp::Client client({server, {}, *name}, {}, now + std::chrono::hours(1));
    const auto actions = client.handle(handshake::curvecp::event::Start{std::move(*keys), {1}}, now);
    const auto* send = std::get_if<handshake::curvecp::action::Send>(&actions[0]);
    if (send == nullptr) return std::nullopt;
    return send->bytes;
}

/// One UDP socket on all addresses that sends each packet under an address of our choice.
class Port {
  public:
    explicit Port(const sockaddr_in& to) : to_(to) {
        fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &kBuffer, sizeof kBuffer);
        sockaddr_in own{};
        own.sin_family = AF_INET;
        open_ = fd_ >= 0 && ::bind(fd_, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0;
    }
    [[nodiscard]] bool is_open() const noexcept { return open_; }

    /// `source` is an IPv4 address in the host's byte order.
    void add(const Hello& packet, std::uint32_t source) {
        msghdr& header = messages_[count_].msg_hdr;
        // sendmmsg() does not write through it. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
        parts_[count_] = {const_cast<Byte*>(packet.data()), packet.size()};
        header = {};
        header.msg_name = &to_;
        header.msg_namelen = sizeof to_;
        header.msg_iov = &parts_[count_];
        header.msg_iovlen = 1;
        header.msg_control = &control_[count_];
        header.msg_controllen = sizeof control_[count_];
        auto& item = *CMSG_FIRSTHDR(&header);
        item.cmsg_level = IPPROTO_IP;
        item.cmsg_type = IP_PKTINFO;
        item.cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
        in_pktinfo info{};
        info.ipi_spec_dst.s_addr = htonl(source);
        std::memcpy(CMSG_DATA(&item), &info, sizeof info);
        ++count_;
    }
    /// Sends what was added. Gives how many packets went.
    std::size_t send() {
        const std::size_t count = std::exchange(count_, 0);
        std::size_t done = 0;
        while (done < count) {
            const int sent = ::sendmmsg(fd_, &messages_[done], static_cast<unsigned>(count - done), 0);
            if (sent < 0 && errno != EINTR && errno != ECONNREFUSED) break;
            if (sent > 0) done += static_cast<std::size_t>(sent);
        }
        return done;
    }
    /// Takes what came, at most a batch. Gives how many packets that were.
    std::size_t receive() {
        std::array<mmsghdr, kBatch> headers{};
        std::array<iovec, kBatch> parts{};
        std::array<Byte, 8> head{};  // the rest is cut off
        for (std::size_t i = 0; i < kBatch; ++i) {
            parts[i] = {head.data(), head.size()};
            headers[i].msg_hdr.msg_iov = &parts[i];
            headers[i].msg_hdr.msg_iovlen = 1;
        }
        const int count = ::recvmmsg(fd_, headers.data(), kBatch, MSG_DONTWAIT, nullptr);
        return count > 0 ? static_cast<std::size_t>(count) : 0;
    }
    bool wait(int milliseconds) const {
        pollfd readable{fd_, POLLIN, 0};
        return ::poll(&readable, 1, milliseconds) > 0;
    }

  private:
    struct alignas(cmsghdr) Control {
        std::array<char, CMSG_SPACE(sizeof(in_pktinfo))> bytes;
    };
    sockaddr_in to_;
    int fd_ = -1;
    bool open_ = false;
    std::size_t count_ = 0;
    std::array<mmsghdr, kBatch> messages_{};
    std::array<iovec, kBatch> parts_{};
    std::array<Control, kBatch> control_{};
};

/// 127.100.7.1 to 127.103.7.250
std::uint32_t source_number(std::size_t i) {
    const auto network = static_cast<std::uint32_t>(100 + i % kNetworks);
    const auto host = static_cast<std::uint32_t>(1 + i / kNetworks % kSourcesANetwork);
    return 127U << 24 | network << 16 | 7U << 8 | host;
}

Totals ask(Port& port, const std::vector<Hello>& hellos, double seconds, std::size_t in_flight) {
    Totals totals;
    const auto end =
        totals.begun + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    std::size_t due = in_flight;
    while (Clock::now() < end) {
        while (due > 0) {
            const std::size_t some = std::min(due, kBatch);
            for (std::size_t i = 0; i < some; ++i)
                port.add(hellos[(totals.sent + i) % hellos.size()], INADDR_LOOPBACK);
            const std::size_t sent = port.send();
            totals.sent += sent;
            due -= some;
        }
        if (port.wait(kPatience)) {
            due = port.receive();
            totals.cookies += due;
        } else {
            due = in_flight;
        }
    }
    return totals;
}

Totals flood(Port& port, const std::vector<Hello>& hellos, double rate) {
    Totals totals;
    const auto batch_takes =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(kBatch / rate));
    auto next = totals.begun;
    std::size_t turn = 0;
    pollfd end{STDIN_FILENO, POLLIN, 0};
    while (::poll(&end, 1, 0) == 0) {
        for (std::size_t i = 0; i < kBatch; ++i, ++turn)
            port.add(hellos[turn % hellos.size()], source_number(turn % kSources));
        totals.sent += port.send();
        totals.cookies += port.receive();
        next += batch_takes;
        const auto now = Clock::now();
        if (now - next > kMostBehind) next = now;  // what this machine cannot send is not sent later
        std::this_thread::sleep_until(next);
    }
    return totals;
}

std::optional<double> number_of(std::string_view text) {
    double out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc{} || end != text.data() + text.size() || out <= 0) return std::nullopt;
    return out;
}

int fail(std::string_view why) {
    std::fprintf(stderr, "curvegate-flooder: %.*s\n", static_cast<int>(why.size()), why.data());
    return 1;
}

int run(const std::vector<std::string_view>& args) {
    const bool asks = args.size() == 6 && args[0] == "ask";
    const bool floods = args.size() == 5 && args[0] == "flood";
    if (!asks && !floods)
        return fail("usage: ask HOST PORT KEY SECONDS IN-FLIGHT | flood HOST PORT KEY RATE");
    sockaddr_in to{};
    to.sin_family = AF_INET;
    const auto port_number = number_of(args[2]);
    const auto key = crypto::PublicKey::from_text(args[3]);
    const auto number = number_of(args[4]);
    const auto in_flight = asks ? number_of(args[5]) : 1.0;
    if (::inet_pton(AF_INET, std::string(args[1]).c_str(), &to.sin_addr) != 1 || !port_number || !key ||
        !number || !in_flight)
        return fail("an IPv4 address, a port, a public key and positive numbers, please");
    to.sin_port = htons(static_cast<std::uint16_t>(*port_number));

    if (!crypto::initialise()) return fail("no crypto library");
    const auto pool = crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 512);
    if (!pool) return fail("no memory for secrets");
    std::vector<Hello> hellos;
    for (std::size_t i = 0; i < kSources; ++i) {
        const auto hello = make_hello(**pool, *key);
        if (!hello) return fail("no Hello can be made");
        hellos.push_back(*hello);
    }
    Port port(to);
    if (!port.is_open()) return fail(std::strerror(errno));
    std::puts("ready");
    std::fflush(stdout);
    const Totals totals = asks ? ask(port, hellos, *number, static_cast<std::size_t>(*in_flight))
                               : flood(port, hellos, *number);
    const double took = std::chrono::duration<double>(Clock::now() - totals.begun).count();
    std::printf("{\"sent\": %llu, \"cookies\": %llu, \"seconds\": %.3f}\n",
                static_cast<unsigned long long>(totals.sent), static_cast<unsigned long long>(totals.cookies),
                took);
    return 0;
}

}  // namespace
}  // namespace curvegate

int main(int argc, char** argv) {
    return curvegate::run({argv + 1, argv + argc});
}
