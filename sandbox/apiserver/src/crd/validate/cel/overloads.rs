//! Which functions there are, for which types, and what they come to.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::types::Type;

/// Functions by name: `receiver.name arguments result`, where a function of no receiver has none. Types: s text, i int, d
/// double, b truth, B bytes, t time, u duration, l any list, ls list of texts, lc list of what can be ordered, ln list of
/// what can be added, m map, o optional, y type, e item of the receiver, r receiver, v what an optional holds, . anything;
/// other words name types of the API's own libraries.
const FUNCTIONS: &str = "
.size s i|.size B i|.size l i|.size m i|s.size - i|B.size - i|l.size - i|m.size - i|s.contains s b|s.startsWith s b
s.endsWith s b|s.matches s b|.matches s,s b|s.find s s|s.findAll s ls|s.findAll s,i ls|s.charAt i s|s.indexOf s i
s.indexOf s,i i|l.indexOf e i|s.lastIndexOf s i|s.lastIndexOf s,i i|l.lastIndexOf e i|s.lowerAscii - s|s.upperAscii - s
s.trim - s|s.replace s,s s|s.replace s,s,i s|s.split s ls|s.split s,i ls|s.substring i s|s.substring i,i s|ls.join - s
ls.join s s|l.reverse - r|lc.isSorted - b|ln.sum - e|lc.min - e|lc.max - e|l.slice i,i r|l.distinct - r|lc.sort - r
l.first - .|l.last - .|s.format l s
t.getFullYear - i|t.getFullYear s i|t.getMonth - i|t.getMonth s i|t.getDate - i|t.getDate s i|t.getDayOfMonth - i
t.getDayOfMonth s i|t.getDayOfWeek - i|t.getDayOfWeek s i|t.getDayOfYear - i|t.getDayOfYear s i|t.getHours - i
t.getHours s i|t.getMinutes - i|t.getMinutes s i|t.getSeconds - i|t.getSeconds s i|t.getMilliseconds - i
t.getMilliseconds s i|u.getHours - i|u.getMinutes - i|u.getSeconds - i|u.getMilliseconds - i
.int i i|.int s i|.int d i|.int t i|.int u i|.string s s|.string i s|.string d s|.string b s|.string B s|.string t s
.string u s|.bool b b|.bool s b|.double d d|.double i d|.double s d|.bytes s B|.bytes B B|.timestamp s t|.timestamp i t
.timestamp t t|.duration s u|.duration i u|.duration u u|.dyn . .|.type . y
.url s kubernetes.URL|.isURL s b|kubernetes.URL.getScheme - s|kubernetes.URL.getHost - s|kubernetes.URL.getHostname - s
kubernetes.URL.getPort - s|kubernetes.URL.getEscapedPath - s|kubernetes.URL.getQuery - .
.ip s net.IP|.isIP s b|net.IP.family - i|net.IP.isUnspecified - b|net.IP.isLoopback - b|net.IP.isLinkLocalMulticast - b
net.IP.isLinkLocalUnicast - b|net.IP.isGlobalUnicast - b|.ip.isCanonical s b|.cidr s net.CIDR|.isCIDR s b
net.CIDR.containsIP s b|net.CIDR.containsIP net.IP b|net.CIDR.containsCIDR s b|net.CIDR.containsCIDR net.CIDR b
net.CIDR.ip - net.IP|net.CIDR.masked - net.CIDR|net.CIDR.prefixLength - i
.quantity s kubernetes.Quantity|.isQuantity s b|kubernetes.Quantity.isGreaterThan kubernetes.Quantity b
kubernetes.Quantity.isLessThan kubernetes.Quantity b|kubernetes.Quantity.compareTo kubernetes.Quantity i
kubernetes.Quantity.add kubernetes.Quantity kubernetes.Quantity|kubernetes.Quantity.add i kubernetes.Quantity
kubernetes.Quantity.sub kubernetes.Quantity kubernetes.Quantity|kubernetes.Quantity.sub i kubernetes.Quantity
kubernetes.Quantity.sign - i|kubernetes.Quantity.isInteger - b|kubernetes.Quantity.asInteger - i
kubernetes.Quantity.asApproximateFloat - d|.semver s kubernetes.Semver|.semver s,b kubernetes.Semver|.isSemver s b
.isSemver s,b b|kubernetes.Semver.major - i|kubernetes.Semver.minor - i|kubernetes.Semver.patch - i
kubernetes.Semver.isGreaterThan kubernetes.Semver b|kubernetes.Semver.isLessThan kubernetes.Semver b
kubernetes.Semver.compareTo kubernetes.Semver i
o.hasValue - b|o.value - v|o.orValue v v|o.or o .|.sets.contains l,l b|.sets.intersects l,l b|.sets.equivalent l,l b
kubernetes.NamedFormat.validate s .";

/// One way to call a function.
struct Overload {
    receiver: &'static str,
    arguments: Vec<&'static str>,
    result: &'static str,
}

fn table() -> &'static HashMap<&'static str, Vec<Overload>> {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Overload>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut out: HashMap<&'static str, Vec<Overload>> = HashMap::new();
        for line in FUNCTIONS.split(['|', '\n']) {
            let mut words = line.split(' ');
            let (Some(name), Some(arguments), Some(result)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            // What begins with a dot has no receiver; its name may hold another dot.
            let (receiver, name) = match name.strip_prefix('.') {
                Some(name) => ("", name),
                None => name.rsplit_once('.').unwrap_or(("", name)),
            };
            let arguments = if arguments == "-" { Vec::new() } else { arguments.split(',').collect() };
            out.entry(name).or_default().push(Overload { receiver, arguments, result });
        }
        out
    })
}

/// What a call comes to.
pub(super) enum Found<'a> {
    /// There is no function of this name here; others may know it.
    Unknown,
    None,
    Some(Type<'a>),
}

/// Finds the way in which a function is called.
pub(super) fn find<'a>(name: &str, receiver: Option<&Type<'a>>, arguments: &[Type<'a>]) -> Found<'a> {
    let Some(overloads) = table().get(name) else { return Found::Unknown };
    if receiver.into_iter().chain(arguments).any(Type::is_unknown) {
        // What is not known may be anything: the result is known where all ways come to the same.
        return Found::Some(common(overloads));
    }
    for overload in overloads {
        let on = match receiver {
            None => overload.receiver.is_empty(),
            Some(kind) => !overload.receiver.is_empty() && fits(overload.receiver, kind, None),
        };
        let same = overload.arguments.len() == arguments.len()
            && overload.arguments.iter().zip(arguments).all(|(code, kind)| fits(code, kind, receiver));
        let sets = !name.starts_with("sets.") || matches!(arguments, [a, b] if a.same(b));
        if on && same && sets {
            return Found::Some(result(overload.result, receiver));
        }
    }
    Found::None
}

fn common<'a>(overloads: &[Overload]) -> Type<'a> {
    let first = overloads.first().map_or(".", |overload| overload.result);
    let plain = overloads.iter().all(|overload| overload.result == first);
    if plain { result(first, None) } else { Type::Dyn }
}

fn fits(code: &str, kind: &Type<'_>, receiver: Option<&Type<'_>>) -> bool {
    match (code, kind) {
        (_, Type::Dyn)
        | (".", _)
        | ("l", Type::List(_))
        | ("m", Type::Map(_))
        | ("o", Type::Optional(_))
        | ("y", Type::Kind(_)) => true,
        ("ls", Type::List(inner)) => inner.same(&Type::String),
        ("lc", Type::List(inner)) => inner.is_unknown() || inner.scalar().is_some(),
        ("ln", Type::List(inner)) => matches!(**inner, Type::Dyn | Type::Int | Type::Double | Type::Duration),
        ("e" | "v", kind) => match receiver {
            Some(Type::List(inner) | Type::Optional(inner)) => inner.same(kind),
            _ => true,
        },
        (code, Type::Named(name)) => code == *name,
        (code, kind) => simple(code).is_some_and(|wanted| kind.scalar() == wanted.scalar()),
    }
}

fn simple<'a>(code: &str) -> Option<Type<'a>> {
    Some(match code {
        "s" => Type::String,
        "i" => Type::Int,
        "d" => Type::Double,
        "b" => Type::Bool,
        "B" => Type::Bytes,
        "t" => Type::Timestamp,
        "u" => Type::Duration,
        _ => return None,
    })
}

fn result<'a>(code: &'static str, receiver: Option<&Type<'a>>) -> Type<'a> {
    match code {
        "ls" => Type::List(Box::new(Type::String)),
        "e" | "v" => match receiver {
            Some(Type::List(inner) | Type::Optional(inner)) => (**inner).clone(),
            _ => Type::Dyn,
        },
        "r" => receiver.cloned().unwrap_or(Type::Dyn),
        code if code.contains('.') && code.len() > 1 => Type::Named(code),
        code => simple(code).unwrap_or(Type::Dyn),
    }
}
