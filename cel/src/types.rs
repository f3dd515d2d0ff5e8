//! Types of expressions, and when a value of one is good for another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Known at evaluation only.
    Dyn,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// A point in time.
    Timestamp,
    /// A length of time.
    Duration,
    /// A list of one type.
    List(Arc<Type>),
    /// A map from one type to another.
    Map(Arc<Type>, Arc<Type>),
    /// A value that may be missing.
    Optional(Arc<Type>),
    /// An object with known fields.
    Object(Object),
    /// What only functions look into: quantities, addresses, URLs, the authorizer.
    Opaque(Arc<str>),
    /// A type as a value.
    Type(Arc<Type>),
    /// Stands for a type that is still to be found.
    Param(usize),
}

/// An object type: equal by name.
#[derive(Clone, Debug)]
pub struct Object {
    /// What errors call it.
    pub name: Arc<str>,
    /// Its fields, as expressions name them.
    pub fields: Arc<BTreeMap<String, Type>>,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Type {
    /// A list of this.
    #[must_use]
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    /// A map.
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    /// This, or nothing.
    #[must_use]
    pub fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// An object with these fields.
    #[must_use]
    pub fn object<'a>(name: &str, fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let fields = fields.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect();
        Self::Object(Object { name: name.into(), fields: Arc::new(fields) })
    }

    /// Something that only functions look into.
    #[must_use]
    pub fn opaque(name: &str) -> Self {
        Self::Opaque(name.into())
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::List(of) => return write!(f, "list({of})"),
            Self::Map(key, value) => return write!(f, "map({key}, {value})"),
            Self::Optional(of) => return write!(f, "optional_type({of})"),
            Self::Object(object) => &object.name,
            Self::Opaque(name) => name,
            Self::Type(of) => return write!(f, "type({of})"),
            Self::Param(_) => "dyn",
        })
    }
}

/// What is known of types that were still to be found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(Vec<Option<Type>>);

impl Found {
    /// A type that is still to be found.
    pub(crate) fn fresh(&mut self) -> Type {
        self.0.push(None);
        Type::Param(self.0.len() - 1)
    }

    /// The type with all that is known put in.
    pub(crate) fn resolve(&self, ty: &Type) -> Type {
        match ty {
            Type::Param(at) => match self.0.get(*at).and_then(Option::as_ref) {
                Some(found) => self.resolve(found),
                None => ty.clone(),
            },
            Type::List(of) => Type::list(self.resolve(of)),
            Type::Optional(of) => Type::optional(self.resolve(of)),
            Type::Type(of) => Type::Type(Arc::new(self.resolve(of))),
            Type::Map(key, value) => Type::map(self.resolve(key), self.resolve(value)),
            _ => ty.clone(),
        }
    }

    /// Whether a value of `from` is good where a `wanted` is; what is still to be found in either is found by it.
    pub(crate) fn assign(&mut self, wanted: &Type, from: &Type) -> bool {
        let (wanted, from) = (self.shallow(wanted), self.shallow(from));
        match (&wanted, &from) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (Type::Param(at), other) | (other, Type::Param(at)) => {
                if self.occurs(*at, other) {
                    return false;
                }
                self.0[*at] = Some(other.clone());
                true
            }
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::List(a), Type::List(b))
            | (Type::Optional(a), Type::Optional(b))
            | (Type::Type(a), Type::Type(b)) => self.assign(a, b),
            (Type::Map(a, b), Type::Map(c, d)) => self.assign(a, c) && self.assign(b, d),
            (a, Type::Null) | (Type::Null, a) => matches!(
                a,
                Type::Null
                    | Type::Object(_)
                    | Type::Opaque(_)
                    | Type::Optional(_)
                    | Type::Timestamp
                    | Type::Duration
            ),
            (a, b) => a == b,
        }
    }

    fn shallow(&self, ty: &Type) -> Type {
        match ty {
            Type::Param(at) => match self.0.get(*at).and_then(Option::as_ref) {
                Some(found) => self.shallow(found),
                None => ty.clone(),
            },
            _ => ty.clone(),
        }
    }

    fn occurs(&self, at: usize, ty: &Type) -> bool {
        match self.shallow(ty) {
            Type::Param(other) => other == at,
            Type::List(of) | Type::Optional(of) | Type::Type(of) => self.occurs(at, &of),
            Type::Map(key, value) => self.occurs(at, &key) || self.occurs(at, &value),
            _ => false,
        }
    }
}
