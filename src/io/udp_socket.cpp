#include "io/udp_socket.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace curvegate::io {
namespace {

constexpr int kKernelBuffer = 4 << 20;  // bytes; the kernel takes less if its limit is lower
constexpr std::size_t kLargest = 65'536;
constexpr std::size_t kTrainsInBatch = 8;  // of up to 64 datagrams each
constexpr std::size_t kDatagramsInBatch = 64;
constexpr int kErrorsInBatch = 8;
// Our own address and the size of a train's segments.
constexpr std::size_t kControl = CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(int));
static_assert(kDatagramsInBatch * UdpSocket::kLongestWithoutGro <= kTrainsInBatch * kLargest);

struct alignas(cmsghdr) Control {
    std::array<char, kControl> bytes;
};

bool set(int fd, int level, int option, int value) {
    return ::setsockopt(fd, level, option, &value, sizeof value) == 0;
}

// A name that the kernel wrote: of either family, or of none (a unix socket in a test).
IpEndpoint endpoint_of(const sockaddr_in6& name) {
    IpEndpoint out;
    if (name.sin6_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, &name, sizeof v4);
        ByteArray<4> bytes{};
        std::memcpy(bytes.data(), &v4.sin_addr, bytes.size());
        out.address = IpAddress::from_v4(bytes);
        out.port = ntohs(v4.sin_port);
    } else if (name.sin6_family == AF_INET6) {
        std::memcpy(out.address.ip.bytes.data(), &name.sin6_addr, out.address.ip.bytes.size());
        out.address.scope = name.sin6_scope_id;
        out.port = ntohs(name.sin6_port);
    }
    return out;
}

// As a socket of that family wants it; an IPv6 address stays one, for the kernel to refuse. Gives the size in
// bytes.
socklen_t write_name(const IpEndpoint& to, bool v6, sockaddr_in6& out) {
    if (v6 || !to.address.ip.is_v4()) {
        out = {};
        out.sin6_family = AF_INET6;
        out.sin6_port = htons(to.port);
        std::memcpy(&out.sin6_addr, to.address.ip.bytes.data(),
                    sizeof out.sin6_addr);  // IPv4 is mapped in it
        out.sin6_scope_id = to.address.scope;
        return sizeof out;
    }
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(to.port);
    std::memcpy(&v4.sin_addr, to.address.ip.bytes.data() + 12, sizeof v4.sin_addr);
    std::memcpy(&out, &v4, sizeof v4);
    return sizeof v4;
}

template <class Value>
Value value_of(const cmsghdr& item) {
    Value out{};
    std::memcpy(&out, CMSG_DATA(&item), sizeof out);
    return out;
}

template <class Value>
void put_item(cmsghdr& item, int level, int type, const Value& value) {
    item.cmsg_level = level;
    item.cmsg_type = type;
    item.cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(&item), &value, sizeof value);
}

iovec part_of(Bytes bytes) {
    // sendmsg() does not write through it. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
    return {const_cast<Byte*>(bytes.data()), bytes.size()};
}

struct Origin {
    Path path;
    std::size_t segment = 0;  // 0: no train, one datagram
};

Origin origin_of(msghdr& header) {
    Origin out;
    out.path.peer = endpoint_of(*static_cast<const sockaddr_in6*>(header.msg_name));
    for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
        if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
            const auto info = value_of<in_pktinfo>(*item);
            ByteArray<4> v4{};
            std::memcpy(v4.data(), &info.ipi_spec_dst, v4.size());
            out.path.own = IpAddress::from_v4(v4);
        } else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
            const auto info = value_of<in6_pktinfo>(*item);
            std::memcpy(out.path.own.bytes.data(), &info.ipi6_addr, out.path.own.bytes.size());
        } else if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) {
            out.segment = static_cast<std::size_t>(value_of<int>(*item));
        }
    }
    return out;
}

}  // namespace

/// What one recvmmsg fills.
struct UdpSocket::Batch {
    std::unique_ptr<Byte[]> bytes = std::make_unique_for_overwrite<Byte[]>(kTrainsInBatch * kLargest);
    std::array<mmsghdr, kDatagramsInBatch> messages{};
    std::array<iovec, kDatagramsInBatch> parts{};
    std::array<sockaddr_in6, kDatagramsInBatch> names{};
    std::array<Control, kDatagramsInBatch> control{};

    /// Ready for the next call. Gives how many messages fit.
    std::size_t prepare(Gro gro) {
        const std::size_t count = gro == Gro::on ? kTrainsInBatch : kDatagramsInBatch;
        const std::size_t size = gro == Gro::on ? kLargest : kLongestWithoutGro;
        for (std::size_t i = 0; i < count; ++i) {
            parts[i] = {bytes.get() + i * size, size};
            msghdr& header = messages[i].msg_hdr;
            header = {};
            names[i].sin6_family = AF_UNSPEC;
            header.msg_name = &names[i];
            header.msg_namelen = sizeof names[i];
            header.msg_iov = &parts[i];
            header.msg_iovlen = 1;
            header.msg_control = &control[i];
            header.msg_controllen = sizeof control[i];
        }
        return count;
    }

    /// One a thread, taken while it is in use: a handler may read from another socket.
    static std::unique_ptr<Batch>& spare() {
        static thread_local std::unique_ptr<Batch> batch;
        return batch;
    }
};

/// What all datagrams to one path have in common, as sendmsg wants it.
struct UdpSocket::Destination {
    sockaddr_in6 name{};
    msghdr header{};
    Control control{};
    std::size_t own_size = 0;  // of the control bytes, before those of segments

    Destination(const Path& to, const UdpSocket& from) {
        if (from.connected_) return;  // the kernel knows
        const bool v6 = from.v6_;
        header.msg_name = &name;
        header.msg_namelen = write_name(to.peer, v6, name);
        if (to.own == IpAddress{}) return;
        header.msg_control = &control;
        header.msg_controllen = sizeof control;
        if (v6) {
            in6_pktinfo info{};  // takes v4-mapped addresses too
            std::memcpy(&info.ipi6_addr, to.own.bytes.data(), to.own.bytes.size());
            put_item(*CMSG_FIRSTHDR(&header), IPPROTO_IPV6, IPV6_PKTINFO, info);
            own_size = CMSG_SPACE(sizeof info);
        } else {
            in_pktinfo info{};
            std::memcpy(&info.ipi_spec_dst, to.own.bytes.data() + 12, sizeof info.ipi_spec_dst);
            put_item(*CMSG_FIRSTHDR(&header), IPPROTO_IP, IP_PKTINFO, info);
            own_size = CMSG_SPACE(sizeof info);
        }
    }

    /// `part` as one datagram, or to be cut into segments (0: not).
    msghdr message(iovec& part, std::uint16_t segment) {
        msghdr out = header;
        out.msg_iov = &part;
        out.msg_iovlen = 1;
        if (segment != 0) {
            out.msg_control = &control;
            out.msg_controllen = own_size + CMSG_SPACE(sizeof segment);
            auto* item = reinterpret_cast<cmsghdr*>(control.bytes.data() + own_size);
            put_item(*item, SOL_UDP, UDP_SEGMENT, segment);
        } else {
            out.msg_controllen = own_size;
            if (own_size == 0) out.msg_control = nullptr;
        }
        return out;
    }
};

UdpSocket::UdpSocket(asio::io_context& context, os::UniqueFd fd, Gro gro) : socket_(context), gro_(gro) {
    sockaddr_in6 name{};
    socklen_t size = sizeof name;
    (void)::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size);
    v6_ = name.sin6_family == AF_INET6;
    socket_.assign(v6_ ? udp::v6() : udp::v4(), fd.get(), last_error_);
    if (last_error_) return;
    (void)fd.release();
    size = sizeof name;
    connected_ = ::getpeername(native_handle(), reinterpret_cast<sockaddr*>(&name), &size) == 0;
    set_options();
}

UdpSocket::~UdpSocket() {
    close();
}

void UdpSocket::set_options() {
    const int fd = native_handle();
    (void)set(fd, SOL_SOCKET, SO_RCVBUF, kKernelBuffer);
    (void)set(fd, SOL_SOCKET, SO_SNDBUF, kKernelBuffer);
    if (gro_ == Gro::on) (void)set(fd, SOL_UDP, UDP_GRO, 1);
    if (!connected_) {
        (void)(v6_ ? set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) : set(fd, IPPROTO_IP, IP_PKTINFO, 1));
    }
    // Packets are made for the least MTU of IPv6; where a path has less, fragments are better than silence.
    (void)set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
    if (v6_) (void)set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
    // A kernel without it would not refuse it: it would send the train as one datagram.
    int segment = 0;
    socklen_t size = sizeof segment;
    segments_ = ::getsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, &size) == 0;
}

std::size_t UdpSocket::read_into(Batch& batch) {
    const std::size_t most = batch.prepare(gro_);
    for (int tries = 0; tries < kErrorsInBatch; ++tries) {
        const int count = ::recvmmsg(native_handle(), batch.messages.data(), static_cast<unsigned>(most),
                                     MSG_DONTWAIT, nullptr);
        if (count >= 0) return static_cast<std::size_t>(count);
        if (errno == EAGAIN) return 0;
        if (errno != EINTR) last_error_.assign(errno, boost::system::system_category());
    }
    return 0;
}

std::size_t UdpSocket::receive(const Handler& handler) {
    if (!is_open()) return 0;
    auto batch = std::exchange(Batch::spare(), nullptr);
    if (!batch) batch = std::make_unique<Batch>();
    std::size_t datagrams = 0;
    const std::size_t count = read_into(*batch);
    for (std::size_t i = 0; i < count && is_open(); ++i) {
        auto& [header, size] = batch->messages[i];
        if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) continue;
        const Origin origin = origin_of(header);
        MutableBytes train(static_cast<Byte*>(batch->parts[i].iov_base), size);
        do {
            const auto next =
                train.first(origin.segment == 0 ? train.size() : std::min(origin.segment, train.size()));
            train = train.subspan(next.size());
            ++datagrams;
            handler(origin.path, next);
        } while (!train.empty() && is_open());
    }
    Batch::spare() = std::move(batch);
    return datagrams;
}

void UdpSocket::wait_readable(std::move_only_function<void()> handler) {
    socket_.async_wait(udp::socket::wait_read,
                       [handler = std::move(handler)](const error_code& error) mutable {
                           if (!error) handler();
                       });
}

void UdpSocket::wait_writable(std::move_only_function<void()> handler) {
    socket_.async_wait(udp::socket::wait_write,
                       [handler = std::move(handler)](const error_code& error) mutable {
                           if (!error) handler();
                       });
}

std::size_t UdpSocket::send(const Path& to, Bytes train, std::size_t segment) {
    if (!is_open()) return train.size();  // lost
    Destination destination(to, *this);
    if (segment == 0 || segment >= train.size()) {
        return send_once(destination, train, 0) == Sent::full ? 0 : train.size();
    }
    const std::size_t at_once = segment * kMaxSegments;
    std::size_t taken = 0;
    while (taken < train.size()) {
        const Bytes part = train.subspan(taken, std::min(at_once, train.size() - taken));
        const std::size_t some = send_some(destination, part, segment);
        taken += some;
        if (some < part.size()) break;
    }
    return taken;
}

std::size_t UdpSocket::send_some(Destination& to, Bytes train, std::size_t segment) {
    if (segments_ && segment < train.size()) {
        const Sent sent = send_once(to, train, segment);
        if (sent != Sent::not_in_segments) return sent == Sent::full ? 0 : train.size();
    }
    return send_apart(to, train, segment);
}

UdpSocket::Sent UdpSocket::send_once(Destination& to, Bytes train, std::size_t segment) {
    iovec part = part_of(train);
    const msghdr message = to.message(part, static_cast<std::uint16_t>(segment));
    // A connected socket first reports what became of an earlier datagram, instead of sending this one.
    for (int tries = connected_ ? 2 : 1;;) {
        if (::sendmsg(native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::yes;
        if (errno == EINTR) continue;
        if (segment != 0 && (errno == EIO || errno == EOPNOTSUPP)) segments_ = false;
        if (segment != 0 && (!segments_ || errno == EINVAL || errno == EMSGSIZE))
            return Sent::not_in_segments;
        const Sent sent = failed_to_send();
        if (sent == Sent::full || --tries == 0) return sent;
    }
}

std::size_t UdpSocket::send_apart(Destination& to, Bytes train, std::size_t segment) {
    std::array<iovec, kMaxSegments> parts{};
    std::array<mmsghdr, kMaxSegments> messages{};
    std::size_t count = 0;
    for (Bytes rest = train; !rest.empty(); ++count) {
        const Bytes next = rest.first(std::min(segment, rest.size()));
        rest = rest.subspan(next.size());
        parts[count] = part_of(next);
        messages[count].msg_hdr = to.message(parts[count], 0);
    }
    std::size_t done = 0;
    for (int tries = connected_ ? 2 : 1; done < count;) {
        const int sent = ::sendmmsg(native_handle(), &messages[done], static_cast<unsigned>(count - done),
                                    MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            done += static_cast<std::size_t>(sent);
        } else if (errno != EINTR) {
            if (failed_to_send() == Sent::full) break;
            if (--tries > 0) continue;
            ++done;
        }
        tries = connected_ ? 2 : 1;
    }
    return std::min(done * segment, train.size());
}

UdpSocket::Sent UdpSocket::failed_to_send() {
    if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) return Sent::full;
    last_error_.assign(errno, boost::system::system_category());
    return Sent::lost;
}

IpEndpoint UdpSocket::local_endpoint() const {
    error_code ignored;
    udp::endpoint out = socket_.local_endpoint(ignored);
    sockaddr_in6 name{};
    std::memcpy(&name, out.data(), std::min(out.size(), sizeof name));
    return endpoint_of(name);
}

void UdpSocket::close() {
    error_code ignored;
    socket_.close(ignored);
}

}  // namespace curvegate::io
