//! The facts that everything else leans on, spot-checked against upstream's types.

use super::*;

#[test]
fn a_type_is_found_by_name_and_its_fields_by_json_name() {
    let container = lookup("core/v1.Container").unwrap().get();
    assert_eq!(container.full_name(), "core/v1.Container");
    assert_eq!(container.component(), "io.k8s.api.core.v1.Container");
    let ports = container.field("ports").unwrap();
    assert_eq!(ports.kind, Kind::List(&Kind::Ref(ids::CORE_V1_CONTAINERPORT)));
    assert!(ports.patch_merge());
    assert_eq!(ports.merge_key, "containerPort");
    assert_eq!(ports.list_type, ListType::Map);
    assert_eq!(ports.list_map_keys, ["containerPort", "protocol"]);
    assert!(lookup("core/v1.Nothing").is_none());
    assert!(container.field("Ports").is_none(), "names are case-sensitive");
}

#[test]
fn inlined_structs_give_their_fields_and_remember_their_message() {
    let volume = ids::CORE_V1_VOLUME.get();
    let empty_dir = volume.field("emptyDir").unwrap();
    assert_eq!((empty_dir.proto, empty_dir.proto_path), (2, &[2u16][..]));
    let named = ids::ADMISSIONREGISTRATION_V1_NAMEDRULEWITHOPERATIONS.get();
    assert_eq!(named.field("apiGroups").unwrap().proto_path, [2, 2]);
}

#[test]
fn special_types_and_aliases_become_kinds() {
    let resources = ids::CORE_V1_RESOURCEREQUIREMENTS.get();
    assert_eq!(resources.field("limits").unwrap().kind, Kind::Map(&Kind::Quantity));
    let event = ids::EVENTS_V1_EVENT.get();
    assert_eq!(event.field("eventTime").unwrap().kind, Kind::MicroTime);
    assert_eq!(ids::META_V1_OBJECTMETA.get().field("uid").unwrap().kind, Kind::String);
    assert!(ids::META_V1_OBJECTMETA.get().field("creationTimestamp").unwrap().omitzero());
}

#[test]
fn the_table_is_sorted_so_that_binary_search_is_right() {
    for (id, ty) in all() {
        assert_eq!(lookup(&ty.full_name()), Some(id), "{}", ty.full_name());
        let names: Vec<_> = ty.fields().iter().map(|f| f.json).collect();
        assert!(names.is_sorted(), "{}: {names:?}", ty.full_name());
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique, "{}", ty.full_name());
    }
}
