#include "io/listen.hpp"

#include "io/asio.hpp"
#include "io/dial_error.hpp"
#include "os/descriptors.hpp"
#include "os/random.hpp"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace curvegate::io {
namespace {

constexpr int kBacklog = 4'096;

// What the steering program looks at in a client's packet (PROTOCOL 7.1).
constexpr std::uint32_t kKindOffset = 4;
constexpr std::uint32_t kHelloKind = 0x35586c48;  // "5XlH"
constexpr std::uint32_t kClientKeyOffset = 40;

enum class Kind : int { tcp = SOCK_STREAM, udp = SOCK_DGRAM };
enum class Share { no, yes };

struct Name {
    sockaddr_storage bytes{};
    socklen_t size = 0;
    [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&bytes); }
};

Name name_of(const ScopedIp& address, std::uint16_t port) {
    Name out;
    const auto& bytes = address.ip.bytes;
    if (address.ip.is_v4()) {
        sockaddr_in v4{};
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        std::memcpy(&v4.sin_addr, bytes.data() + 12, sizeof v4.sin_addr);
        out.size = sizeof v4;
        std::memcpy(&out.bytes, &v4, sizeof v4);
    } else {
        sockaddr_in6 v6{};
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        v6.sin6_scope_id = address.scope;
        std::memcpy(&v6.sin6_addr, bytes.data(), bytes.size());
        out.size = sizeof v6;
        std::memcpy(&out.bytes, &v6, sizeof v6);
    }
    return out;
}

void set(const os::UniqueFd& fd, int level, int option, int value) {
    (void)::setsockopt(fd.get(), level, option, &value, sizeof value);
}

Result<os::UniqueFd> make_socket(Kind kind, const ListenPlace& place) {
    const bool v4 = place.address.ip.is_v4();
    const int type = static_cast<int>(kind) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    os::UniqueFd fd(::socket(v4 ? AF_INET : AF_INET6, type, 0));
    if (!fd) return os::fail_errno(place.what);
    if (!v4) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    // Of TCP it reuses a port in TIME-WAIT; UDP sockets would share the port with anybody.
    if (kind == Kind::tcp) set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    return fd;
}

Result<> bind_to(const os::UniqueFd& fd, const ListenPlace& place) {
    const Name name = name_of(place.address, place.port);
    if (::bind(fd.get(), name.get(), name.size) == 0) return {};
    if (errno == EADDRNOTAVAIL && place.absent == Absent::wait) {
        const bool v4 = place.address.ip.is_v4();
        set(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_FREEBIND : IPV6_FREEBIND, 1);
        if (::bind(fd.get(), name.get(), name.size) == 0) return {};
    }
    const std::string hint = errno == EACCES       ? " (a port under 1024 needs CAP_NET_BIND_SERVICE)"
                             : errno == EADDRINUSE ? " (another program has it: ss -tulnp shows which)"
                                                   : "";
    return fail(os::Errc::system, os::fail_errno(place.what).error().detail() + hint);
}

Result<os::UniqueFd> open_bound(Kind kind, const ListenPlace& place, Share share) {
    auto fd = make_socket(kind, place);
    if (!fd) return fd;
    if (share == Share::yes) set(*fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (auto bound = bind_to(*fd, place); !bound) return fail(std::move(bound));
    if (kind == Kind::tcp && ::listen(fd->get(), kBacklog) != 0) return os::fail_errno(place.what);
    return fd;
}

// `place` with the port that the kernel chose, if it had to.
Result<ListenPlace> find_free(Kind kind, const ListenPlace& place) {
    // Without SO_REUSEPORT: it would let us share a port with somebody else's socket. It does not listen, for
    // it is closed at once: whoever had connected to it would be reset.
    auto alone = make_socket(kind, place);
    if (!alone) return fail(std::move(alone));
    if (auto bound = bind_to(*alone, place); !bound) return fail(std::move(bound));
    ListenPlace out = place;
    out.port = port_of(alone->get());
    return out;
}

Result<std::vector<os::UniqueFd>> open_shared(Kind kind, const ListenPlace& place, std::size_t count) {
    std::vector<os::UniqueFd> out;
    if (count == 1) {
        auto only = open_bound(kind, place, Share::no);
        if (!only) return fail(std::move(only));
        out.push_back(std::move(*only));
        return out;
    }
    auto free = find_free(kind, place);
    if (!free) return fail(std::move(free));
    while (out.size() < count) {
        auto fd = open_bound(kind, *free, Share::yes);
        if (!fd) return fail(std::move(fd));
        out.push_back(std::move(*fd));
    }
    return out;
}

// Odd, so that no bit of the key's is lost; secret, so that no stranger chooses whose worker he keeps busy.
std::uint32_t random_multiplier() {
    ByteArray<4> bytes{};
    os::SystemRandom().fill(bytes);
    return load_be<std::uint32_t>(bytes) | 1U;
}

Result<> steer(const os::UniqueFd& fd, const ListenPlace& place, std::uint32_t workers) {
    // A load from beyond the packet's end ends the program with 0.
    std::array<sock_filter, 12> code = {{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kClientKeyOffset),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, random_multiplier()),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),  // the upper bits depend on all of the word
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, workers),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kKindOffset),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kHelloKind, 0, 3),
        BPF_STMT(BPF_MISC | BPF_TXA, 0),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, workers),
        BPF_STMT(BPF_RET | BPF_A, 0),
        BPF_STMT(BPF_MISC | BPF_TXA, 0),
        BPF_STMT(BPF_RET | BPF_A, 0),
    }};
    const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) != 0)
        return os::fail_errno(place.what + ": SO_ATTACH_REUSEPORT_CBPF");
    return {};
}

}  // namespace

bool is_here(const ScopedIp& address) {
    const auto fd = make_socket(Kind::udp, {address, 0, {}});
    if (!fd) return true;  // such a listener fails for another reason
    const Name name = name_of(address, 0);
    return ::bind(fd->get(), name.get(), name.size) == 0 || errno != EADDRNOTAVAIL;
}

Result<os::UniqueFd> listen_tcp(const ListenPlace& place) {
    return open_bound(Kind::tcp, place, Share::no);
}

Result<std::vector<os::UniqueFd>> listen_tcp(const ListenPlace& place, std::size_t workers) {
    return open_shared(Kind::tcp, place, workers);
}

Result<std::vector<os::UniqueFd>> open_udp(const ListenPlace& place, std::size_t workers) {
    return open_shared(Kind::udp, place, workers);
}

Result<std::vector<os::UniqueFd>> open_udp_endpoint(const ListenPlace& place, std::size_t workers) {
    auto out = open_shared(Kind::udp, place, 2 * workers);
    if (!out) return out;
    // It holds for the whole group.
    if (auto steered = steer(out->front(), place, static_cast<std::uint32_t>(workers)); !steered)
        return fail(std::move(steered));
    return out;
}

Result<os::UniqueFd> connect_udp(const ScopedIp& address, std::uint16_t port) {
    const std::string where = "UDP to " + IpEndpoint{address, port}.text();
    const int family = address.ip.is_v4() ? AF_INET : AF_INET6;
    os::UniqueFd fd = os::socket_for_session(family, SOCK_DGRAM);
    if (!fd) return fail_dial(where, errno);
    const Name name = name_of(address, port);
    if (::connect(fd.get(), name.get(), name.size) != 0) return fail_dial(where, errno);
    return fd;
}

std::uint16_t port_of(int fd) {
    sockaddr_in6 name{};
    socklen_t size = sizeof name;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) return 0;
    return ntohs(name.sin6_port);  // at the same place in sockaddr_in
}

}  // namespace curvegate::io
